/* SPDX-License-Identifier: MIT */
#pragma once

/* The tables of the registry: how each version of them is made from the one before, and every statement on
 * them. */

#include "daemon/engine/store.h"

/* A statement's number; its text is in registry-statement-table.h. */
typedef enum RegistryStatement {
#define STATEMENT(name, sql) STATEMENT_##name,
#include "daemon/engine/registry-statement-table.h"
#undef STATEMENT
        STATEMENT_N_,
} RegistryStatement;

extern const StoreConfig registry_store_config;

# The names people expect; the work is done by CMake and by the scripts in tests/support.

BUILD ?= build
PREFIX ?= /usr/local
SUPPORT = tests/support

.PHONY: all build check demo bench install format clean

all: build

build:
	$(SUPPORT)/setup build
	cmake -S . -B $(BUILD) -G Ninja -DCMAKE_INSTALL_PREFIX=$(PREFIX)
	cmake --build $(BUILD)

# Every test there is; STEPS="unit lint" runs only those (tests/support/check --list names them).
check:
	$(SUPPORT)/check --build $(BUILD)-check $(STEPS)

demo: build
	tests/demo/run --build $(BUILD)

# A few minutes beside the raw limits; PEERS=1 adds the installed peers, BENCH_ARGS go to tests/bench/peers.
bench: build
	$(SUPPORT)/setup bench $(if $(PEERS),peers)
	tests/bench/run --build $(BUILD) $(if $(PEERS),--peers) $(BENCH_ARGS)

install: build
	DESTDIR=$(DESTDIR) cmake --install $(BUILD)

format:
	git ls-files -z '*.c' '*.h' | grep -zv -e '-table\.h$$' | xargs -0 clang-format -i

clean:
	rm -rf $(BUILD) $(BUILD)-check

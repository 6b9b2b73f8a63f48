#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""lint.py [--root DIR] [--list] [LINT...]: what the compiler does not check.

Each lint is a function that yields (path, line, sentence). tests/lint/allow names the exceptions, each with its
reason; tests/lint/layers says who may include whom within the engine. tests/lint/selftest plants a violation of
every lint and sees it found."""
import argparse
import ast
import concurrent.futures
import os
import re
import subprocess
import sys

LINTS = {}
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 100


def lint(function):
    LINTS[function.__name__.replace("_", "-")] = function
    return function


class Tree:
    """The files of a source tree: those git knows or would add; outside git, all."""

    def __init__(self, root):
        self.root = root
        r = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-zco", "--exclude-standard"], cwd=root,
                           capture_output=True)
        if r.returncode == 0:
            names = [n.decode() for n in r.stdout.split(b"\0") if n]
        else:
            names = [os.path.relpath(os.path.join(d, f), root) for d, _, fs in os.walk(root) for f in fs]
        self.files = sorted({n for n in names if os.path.isfile(os.path.join(root, n))})
        self.cache = {}

    def text(self, path):
        if path not in self.cache:
            with open(os.path.join(self.root, path), "rb") as f:
                self.cache[path] = f.read().decode("utf-8", "replace")
        return self.cache[path]

    def lines(self, path):
        return self.text(path).split("\n")

    def c(self, *ends):
        return [f for f in self.files if f.endswith(ends or (".c", ".h"))]

    def scripts(self, *interpreters):
        """Files that are executed by one of the interpreters, by their first line."""
        for f in self.files:
            first = self.text(f).split("\n", 1)[0]
            if first.startswith("#!") and re.search(r"\b(%s)[0-9.]*\b" % "|".join(interpreters), first):
                yield f


def is_table(path):
    return path.endswith("-table.h")


def code(text):
    """The text with comments and literals blanked out, line by line as before."""
    def blank(m):
        s = m.group(0)
        if s[0] in "\"'":
            return s[0] + " " * (len(s) - 2) + s[0]
        return re.sub(r"[^\n]", " ", s)
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def includes(tree, path):
    for n, line in enumerate(tree.lines(path), 1):
        m = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line)
        if m:
            yield n, m.group(1) == "<", m.group(2)


# ---- form ----

@lint
def c_format(tree):
    """clang-format has nothing to change; tables are laid out by hand."""
    files = [f for f in tree.c() if not is_table(f)]
    if not files:
        return
    r = subprocess.run(["clang-format", "--dry-run", "--Werror", *files], cwd=tree.root, capture_output=True, text=True)
    seen = set()
    for m in re.finditer(r"^(\S+?):(\d+):\d+: error:", r.stderr, re.M):
        if m.group(1) not in seen:
            seen.add(m.group(1))
            yield m.group(1), int(m.group(2)), "not as clang-format would have it (make format)"
    if r.returncode and not seen:
        yield ".clang-format", 1, f"clang-format failed: {r.stderr.strip()[:200]}"


@lint
def text_form(tree):
    """Text is UTF-8, ends in a newline, and no line ends in a blank."""
    for f in tree.files:
        if f.startswith("tests/fuzz/corpus"):
            continue
        with open(os.path.join(tree.root, f), "rb") as h:
            data = h.read()
        if b"\0" in data:
            yield f, 1, "a NUL byte: binary files have no place here"
            continue
        try:
            data.decode()
        except UnicodeDecodeError:
            yield f, 1, "not UTF-8"
        if data and not data.endswith(b"\n"):
            yield f, data.count(b"\n") + 1, "no newline at the end"
        for n, line in enumerate(data.split(b"\n"), 1):
            if line.endswith((b" ", b"\t", b"\r")):
                yield f, n, "blanks at the end of the line"


@lint
def spdx(tree):
    """Every source file says its licence in its first line, a script in its second."""
    for f in tree.c():
        if tree.lines(f)[0] != "/* SPDX-License-Identifier: MIT */":
            yield f, 1, "the first line is not the SPDX line"
    for f in tree.scripts("sh", "bash", "python"):
        if "# SPDX-License-Identifier: MIT" not in tree.lines(f)[:3]:
            yield f, 2, "no SPDX line after the interpreter's"


@lint
def pragma_once(tree):
    """A header begins with #pragma once and a comment that says what it is; a table is meant to be included often."""
    for f in tree.c(".h"):
        if is_table(f):
            continue
        lines = [line for line in tree.lines(f) if line.strip()]
        if len(lines) < 3 or lines[1] != "#pragma once":
            yield f, 2, "#pragma once does not follow the SPDX line"
        elif not lines[2].startswith("/*"):
            yield f, 4, "no comment that says what this header is"


@lint
def header_alone(tree):
    """Each header compiles by itself, so that the order of includes never matters."""
    flags = subprocess.run(["pkg-config", "--cflags", "libevent_core", "libsystemd", "sqlite3", "jansson", "check"],
                           capture_output=True, text=True).stdout.split()

    def compiles(f):
        r = subprocess.run(["gcc", "-std=gnu11", "-D_GNU_SOURCE", '-DPMUX_VERSION="0"', "-Wall", "-Werror",
                            "-Wno-unused", "-fsyntax-only", "-I.", *flags, "-include", f, "-x", "c", "/dev/null"],
                           cwd=tree.root, capture_output=True, text=True)
        return f, r.returncode, r.stderr

    headers = [f for f in tree.c(".h") if not is_table(f)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for f, status, message in pool.map(compiles, headers):
            if status:
                first = next((m for m in message.splitlines() if "error" in m), message[:100])
                yield f, 1, f"does not compile by itself: {first}"


@lint
def own_header_first(tree):
    """A .c file includes its own header before any other."""
    for f in tree.c(".c"):
        header = f[:-2] + ".h"
        if header in tree.files:
            first = next(includes(tree, f), None)
            if not first or first[1] or first[2] != header:
                yield f, first[0] if first else 1, f'"{header}" is not its first include'


RESERVED = re.compile(
    r"__(attribute|typeof|extension|alignof|restrict)__|__builtin_\w+|__cplusplus|__(x86_64|aarch64|riscv|i386)__|__asm__|__(FILE|LINE|COUNTER|VA_ARGS|VA_OPT)__|__func__|"
    r"__(has|clang|GNUC|SANITIZE|BYTE_ORDER|ORDER)\w*|__real_\w+|__wrap_\w+|__NR_\w+|__[us](8|16|32|64)|__(le|be)\d+|__WALL|"
    r"__sync_\w+|__atomic_\w+|__lsan_\w+|__asan_\w+|__gcov_\w+|"
    r"__u?int128|_(GNU_SOURCE|Static_assert|Generic|Atomic|Noreturn|Alignas|Alignof|Thread_local|Bool|exit|Exit|IO\w*|SC\w*|PATH\w*|POSIX\w*)")


@lint
def names(tree):
    """No name of ours begins with an underscore: those belong to the compiler and the C library."""
    for f in tree.c():
        for n, line in enumerate(code(tree.text(f)).split("\n"), 1):
            if line.lstrip().startswith("#include"):
                continue
            for m in re.finditer(r"(?<![\w.#])_\w+", line):
                if m.group(0) == "_i" and f.startswith("tests/unit/"):
                    continue  # the loop variable of Check
                if not RESERVED.fullmatch(m.group(0)):
                    yield f, n, f"the name {m.group(0)} begins with an underscore"


def functions(text):
    """(name, first line, number of lines) of each function of a file formatted as ours are."""
    start = None
    for n, line in enumerate(code(text).split("\n"), 1):
        if start is None:
            if re.match(r"[A-Za-z]", line) and not re.match(r"(typedef|struct \w+ \{|enum \w+ \{|union|extern)", line):
                name = re.search(r"(\w+)\(", line)
                head = (name.group(1) if name else "?", n)
                if line.rstrip().endswith("{") and "=" not in line and name:
                    start = head
            elif line.rstrip().endswith(") {") and line.startswith(" ") and "head" in locals() and head:
                start = head
            if line.startswith("}") or line.rstrip().endswith(";"):
                head = None
        elif line.startswith("}"):
            yield start[0], start[1], n - start[1] + 1
            start = head = None


@lint
def length(tree):
    """A file or a function that outgrew one reading is split, or tests/lint/allow says why not."""
    for f in tree.c():
        n = len(tree.lines(f)) - 1
        if n > FILE_LINES_MAX:
            yield f, 1, f"{n} lines, at most {FILE_LINES_MAX}"
        for name, line, n in functions(tree.text(f)):
            if n > FUNCTION_LINES_MAX:
                yield f, line, f"{name}() has {n} lines, at most {FUNCTION_LINES_MAX}"


@lint
def unfinished(tree):
    """Nothing in the tree calls itself unfinished."""
    word = re.compile(r"\b(TO[D]O|FIX[M]E|X[X]X|HAC[K])\b|not imple[m]ented", 0)
    for f in tree.files:
        if f.startswith("tests/fuzz/corpus"):
            continue
        for n, line in enumerate(tree.lines(f), 1):
            m = word.search(line)
            if m:
                yield f, n, f"says {m.group(0)!r}"


@lint
def foreign_paths(tree):
    """No path of one person's machine."""
    path = re.compile(r"(?<![\w.])/(w[o]rk|f[a]rm|h[o]me/[a-z]\w*|mnt/\w+|U[s]ers/\w+)/")
    for f in tree.files:
        if f.startswith("tests/fuzz/corpus"):
            continue
        for n, line in enumerate(tree.lines(f), 1):
            m = path.search(line)
            if m:
                yield f, n, f"a path of one machine: {m.group(0)}"


@lint
def documented(tree):
    """A function that a header declares has a comment, or stands in a group that has one."""
    for f in tree.c(".h"):
        if is_table(f):
            continue
        raw, clean = tree.lines(f), code(tree.text(f)).split("\n")
        grouped = False
        for n, line in enumerate(clean):
            if not n or not raw[n - 1].strip():  # a new group, up to the next empty line
                grouped = any("*/" in text for text in raw[n:raw.index("", n) if "" in raw[n:] else None])
            m = re.match(r"(?!typedef|static|struct \w+;|DEFINE|#|return|extern)[A-Za-z][\w \*]*?\b(\w+)\(", line)
            if not m or grouped or re.search(r"_(init|deinit|free|unref)$", m.group(1)):
                continue  # what makes and unmakes an object is the same everywhere (HACKING.md)
            last = n  # a declaration may go on over several lines
            while last < len(clean) - 1 and not re.search(r"[;{]", clean[last]):
                last += 1
            if clean[last].rstrip().endswith(";"):
                yield f, n + 1, f"{m.group(1)}() has no comment"


# ---- who may include whom ----

def layers(tree):
    """tests/lint/layers: {family: rank}, the higher may include the lower."""
    ranks, rank = {}, 0
    path = "tests/lint/layers"
    if path in tree.files:
        for line in tree.lines(path):
            families = line.split("#")[0].split()
            if families:
                rank -= 1
                ranks.update(dict.fromkeys(families, rank))
    return ranks


def family(ranks, stem):
    """The longest entry of tests/lint/layers that the name is, or begins with."""
    fits = [k for k in ranks if stem == k or stem.startswith(k + "-")]
    return max(fits, key=len) if fits else None


@lint
def include_sides(tree):
    """common knows nobody, daemon and client never each other, keeper and engine only their message table."""
    for f in tree.c():
        side = f.split("/")[0]
        for n, system, name in includes(tree, f):
            if system or side not in ("common", "daemon", "client"):
                continue
            if "/" not in name:
                yield f, n, f'"{name}": written from the top of the tree, as "common/error.h"'
                continue
            to = name.split("/")[0]
            if to not in ("common", side):
                yield f, n, f"{side} includes {name}"
            elif f.startswith("daemon/keeper/") and to == "daemon" and not name.startswith("daemon/keeper"):
                yield f, n, f"the keeper includes {name}"
            elif f.startswith("daemon/engine/") and name.startswith("daemon/keeper/"):
                yield f, n, f"the engine includes {name}; they share only daemon/keeper-message.h"
            elif f.startswith("client/libpmux/") and name.startswith("client/cli"):
                yield f, n, f"the library includes {name}"


@lint
def include_layers(tree):
    """Within the engine includes go down only, as tests/lint/layers lists them."""
    ranks = layers(tree)
    for f in tree.c():
        if not f.startswith("daemon/engine/"):
            continue
        own = family(ranks, os.path.basename(f)[:-2].removesuffix("-table"))
        if not own:
            yield f, 1, "has no place in tests/lint/layers"
            continue
        for n, system, name in includes(tree, f):
            if system or not name.startswith("daemon/engine/"):
                continue
            other = family(ranks, os.path.basename(name)[:-2].removesuffix("-table"))
            if other and other != own and ranks[other] > ranks[own]:
                yield f, n, f"{own} includes {name}, which stands above it (tests/lint/layers)"


LIBRARIES = (  # header, where it may be included, in words
    (r"event2/|event\.h",
     r"daemon/(engine/(engine|process|client|reader|listener|keeper-link|stdin|timer|loop)(-(?!state)[a-z-]+)?\.[ch]|[a-z-]+\.c)|client/libpmux-event/.*",
     "the (ev) files of the engine"),
    (r"systemd/", r"daemon/(main|[a-z-]*setup|[a-z-]*log)\.[ch]|daemon/keeper/(report|notify|watchdog|main|setup|listen|activation|systemd)[a-z-]*\.[ch]",
     "main and the keeper's report and setup files"),
    (r"sqlite3\.h", r"daemon/engine/(registry|store)[a-z-]*\.[ch]", "the registry's store"),
    (r"pcre2\.h", r"daemon/engine/match-pattern\.c", "the pattern of a match"),
    (r"check\.h", r"tests/.*", "tests"),
)


@lint
def include_libraries(tree):
    """Only the file that owns a library's job includes its header."""
    for f in tree.c():
        if f.startswith("tests/"):
            continue
        for n, system, name in includes(tree, f):
            for header, allowed, words in LIBRARIES:
                if system and re.match(header, name) and not re.fullmatch(allowed, f):
                    yield f, n, f"<{name}> is for {words}"


PURE = re.compile(r"(common/(parse|protocol|utf8|list|macro|bytes)|daemon/engine/(process-state|params))\.[ch]")
IO_HEADERS = {"unistd.h", "fcntl.h", "sys/socket.h", "sys/stat.h", "sys/mman.h", "dirent.h", "sys/wait.h", "signal.h",
              "syslog.h"}


@lint
def pure(tree):
    """Files that only compute include nothing that does input or output; common never logs."""
    for f in tree.c():
        if PURE.fullmatch(f):
            for n, system, name in includes(tree, f):
                if system and name in IO_HEADERS - ({"signal.h"} if "parse" in f else set()):
                    yield f, n, f"a pure file includes <{name}>"
        if f.startswith("common/"):
            for n, line in enumerate(code(tree.text(f)).split("\n"), 1):
                if re.search(r"\b(f?printf\(std|vfprintf\(std|printf\(|perror\(|syslog\(|sd_journal_)", line):
                    yield f, n, "common never logs"


@lint
def assert_stays(tree):
    """assert() guards invariants in release builds too."""
    for f in tree.files:
        if f.endswith((".c", ".h", "CMakeLists.txt", "Makefile")):
            for n, line in enumerate(tree.lines(f), 1):
                if re.search(r"-D\s*NDEBUG|define\s+NDEBUG", line) and not line.lstrip().startswith("#  "):
                    if "no -DNDEBUG" not in line:
                        yield f, n, "NDEBUG would take the assertions away"


@lint
def unit_mirrors_source(tree):
    """tests/unit/check_x_y.c tests x-y.c, or one theme of x.c, so that the proof is found by the file's name."""
    stems = {os.path.basename(f).rsplit(".", 1)[0] for f in tree.c() if not f.startswith("tests/unit/")}
    for f in tree.c(".c"):
        m = re.fullmatch(r"tests/unit/check_(\w+)\.c", f)
        parts = m.group(1).split("_") if m else []
        if m and not any("-".join(parts[:n]) in stems for n in range(1, len(parts) + 1)):
            yield f, 1, f"there is no {'-'.join(parts)}.c or .h"


@lint
def bench_targets(tree):
    """docs/performance.md shows every target of the benchmark."""
    source, page = "tests/bench/targets.py", "docs/performance.md"
    if source not in tree.files:
        return
    shown = {line.split("|")[1].strip() for line in tree.lines(page) if line.count("|") > 1} if page in tree.files else ()
    for n, line in enumerate(tree.lines(source), 1):
        m = re.match(r'\s*Target\("([^"]+)"', line)
        if m and m.group(1) not in shown:
            yield source, n, f"{page} does not show '{m.group(1)}'"


@lint
def promises_tested(tree):
    """Each row of docs/streams.md names tests, `file.name`, and all that it names are there."""
    page = "docs/streams.md"
    sources = {os.path.basename(f).rsplit(".", 1)[0]: f for f in tree.c(".py", ".c")
               if f.startswith(("tests/integration/test_", "tests/unit/check_"))}
    lines = tree.lines(page) if page in tree.files else []
    for n, line in enumerate(lines, 1):
        rule, after = set("|- "), lines[n] if n < len(lines) else ""
        if not line.startswith("|") or set(line) <= rule or (after.startswith("|") and set(after) <= rule):
            continue
        named = re.findall(r"`((?:test|check)_\w+)\.(\w+)`", line.rstrip("| ").rsplit(" | ", 1)[-1])
        if not named:
            yield page, n, "names no test"
        for file, name in named:
            text = tree.text(sources[file]) if file in sources else ""
            if not re.search(r"^ *def %s\(|^START_TEST\(%s\)" % (name, name), text, re.M):
                yield page, n, f"there is no {file}.{name}"


# ---- scripts ----

@lint
def shell(tree):
    """shellcheck has nothing to warn of."""
    files = list(tree.scripts("sh", "bash"))
    if not files:
        return
    r = subprocess.run(["shellcheck", "-S", "warning", "-f", "gcc", *files], cwd=tree.root, capture_output=True, text=True)
    for m in re.finditer(r"^([^:]+):(\d+):\d+: \w+: (.*)$", r.stdout, re.M):
        yield m.group(1), int(m.group(2)), m.group(3)
    if r.returncode > 1:
        yield files[0], 1, f"shellcheck failed: {r.stderr.strip()[:200]}"


@lint
def python(tree):
    """Python files parse, and import nothing that they do not use."""
    for f in {*tree.c(".py"), *tree.scripts("python")}:
        try:
            module = ast.parse(tree.text(f), f)
        except SyntaxError as e:
            yield f, e.lineno or 1, f"does not parse: {e.msg}"
            continue
        used = {n.id for n in ast.walk(module) if isinstance(n, ast.Name)}
        exported = re.findall(r"\w+", str([ast.literal_eval(n.value) for n in module.body if isinstance(n, ast.Assign)
                                           and getattr(n.targets[0], "id", "") == "__all__"]))
        for n in ast.walk(module):
            if isinstance(n, (ast.Import, ast.ImportFrom)):
                for alias in n.names:
                    name = (alias.asname or alias.name).split(".")[0]
                    if name not in used and name not in exported and name != "*":
                        yield f, n.lineno, f"imports {name}, which it does not use"


@lint
def executable(tree):
    """What begins with an interpreter's line can be executed, and nothing else."""
    for f in tree.files:
        runs = os.access(os.path.join(tree.root, f), os.X_OK)
        script = tree.text(f).startswith("#!")
        if script and not runs:
            yield f, 1, "is a script and not executable"
        elif runs and not script:
            yield f, 1, "is executable and no script"


# ---- running them ----

def allowed(tree):
    """tests/lint/allow: lines `LINT PATH TEXT -- reason`; TEXT is a part of the sentence, `*` any."""
    out = []
    path = "tests/lint/allow"
    for n, line in enumerate(tree.lines(path) if path in tree.files else [], 1):
        if line.strip() and not line.startswith("#"):
            rule, _, reason = line.partition(" -- ")
            parts = rule.split(None, 2)
            if len(parts) != 3 or not reason.strip() or parts[0] not in LINTS:
                raise SystemExit(f"{path}:{n}: not `LINT PATH TEXT -- reason`")
            out.append([*parts, n, False])
    return out


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--root", default=os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    a.add_argument("--list", action="store_true")
    a.add_argument("lints", nargs="*")
    o = a.parse_args()
    if o.list:
        for name, function in LINTS.items():
            print(f"{name}: {function.__doc__}")
        return 0
    unknown = [n for n in o.lints if n not in LINTS]
    if unknown:
        a.error(f"no lint {unknown[0]}")
    tree = Tree(os.path.abspath(o.root))
    exceptions = allowed(tree)
    n_failed = 0
    chosen = o.lints or list(LINTS)
    for name in chosen:
        found = []
        for path, line, sentence in LINTS[name](tree):
            for e in exceptions:
                if e[0] == name and e[1] == path and (e[2] == "*" or e[2] in sentence):
                    e[4] = True
                    break
            else:
                found.append(f"{path}:{line}: {sentence}")
        for e in exceptions:
            if e[0] == name and not e[4]:
                found.append(f"tests/lint/allow:{e[3]}: allows what is not there (any more)")
        n_failed += bool(found)
        print(f"{'FAILED' if found else 'ok'} {name}: {LINTS[name].__doc__.splitlines()[0]}")
        for text in found:
            print(f"        {text}")
    print(f"{len(chosen) - n_failed} passed, {n_failed} failed")
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())

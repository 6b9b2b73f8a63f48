# SPDX-License-Identifier: MIT
"""The examples of docs/library.md: those of the page are those that run, and they say what the page says."""

import os
import re
import subprocess

from pmux_test import BUILD, PmuxTest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EXAMPLES = os.path.join(TOP, "tests", "examples")


def page():
    """name -> (program, what it prints), from docs/library.md."""
    with open(os.path.join(TOP, "docs", "library.md")) as file:
        text = file.read()
    found = re.findall(r"`tests/examples/([a-z-]+)\.c`.*?```c\n(.*?)```.*?```text\n(.*?)```", text, re.S)
    return {name: (program, output) for name, program, output in found}


class Library(PmuxTest):
    def example(self, name):
        program, output = page()[name]
        path = os.path.join(self.tmp, name)
        with open(path + ".c", "w") as file:
            file.write(program)
        include = ["-I" + os.path.join(TOP, "client", part) for part in ("libpmux", "libpmux-event")]
        sanitize = ["-fsanitize=address,undefined"] if os.environ.get("ASAN_OPTIONS") else []
        lib = os.path.join(BUILD, "lib")
        subprocess.run(["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", *sanitize, *include, "-o", path,
                        path + ".c", "-L" + lib, "-Wl,-rpath," + lib, "-lpmux-event", "-lpmux",
                        "-levent_core"], check=True)
        done = subprocess.run([path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=self.daemon.cli_env(None), timeout=60)
        self.assertEqual((done.stdout.decode(), done.stderr.decode(), done.returncode), (output, "", 0))

    def test_the_page_has_the_very_files(self):
        files = {}
        for name in os.listdir(EXAMPLES):
            with open(os.path.join(EXAMPLES, name)) as file:
                files[name.removesuffix(".c")] = file.read().split("*/\n\n", 1)[1]
        self.assertEqual({name: program for name, (program, _) in page().items()}, files)

    def test_ask(self):
        self.example("ask")

    def test_portions(self):
        self.example("portions")

    def test_wait(self):
        self.example("wait")

    def test_loop(self):
        self.example("loop")

    def test_own_streams(self):
        self.example("own-streams")

    def test_stream(self):
        self.example("stream")

    def test_as_installed_by_pkg_config(self):
        """A program that knows nothing but the names of the packages, where everything was installed."""
        place = os.path.join(self.tmp, "place")
        subprocess.run(["cmake", "--install", BUILD], check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "DESTDIR": place})
        found = [d for d, _, files in os.walk(place) if "libpmux-event.pc" in files]
        self.assertEqual(len(found), 1, found)
        lib = os.path.dirname(found[0])
        program, output = page()["loop"]
        path = os.path.join(self.tmp, "loop")
        with open(path + ".c", "w") as file:
            file.write(program)
        env = {**os.environ, "PKG_CONFIG_PATH": found[0]}
        sanitize = ["-fsanitize=address,undefined"] if os.environ.get("ASAN_OPTIONS") else []
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libpmux-event"], env=env, check=True,
                               stdout=subprocess.PIPE).stdout.decode().split()
        self.assertIn(lib, [os.path.normpath(flag[2:]) for flag in flags if flag.startswith("-L")])
        subprocess.run(["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", *sanitize, "-o", path, path + ".c",
                        *flags], check=True, env=env)
        done = subprocess.run([path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env={**self.daemon.cli_env(None), "LD_LIBRARY_PATH": lib}, timeout=60)
        self.assertEqual((done.stdout.decode(), done.stderr.decode(), done.returncode), (output, "", 0))

    def test_from_cplusplus(self):
        """All of the headers in a program of C++, which finds their functions under the names of C."""
        path = os.path.join(self.tmp, "program")
        with open(path + ".cc", "w") as file:
            file.write("""
                #include <pmux-event.h>
                #include <pmux-read.h>
                #include <pmux-text.h>
                #include <pmux.h>

                int main() {
                        PmuxReadOptions options = PmuxReadOptions();
                        PmuxDecoder *decoder;
                        PmuxRead read;
                        Pmux *pmux;

                        options.size = sizeof(options);
                        if (pmux_event_free(nullptr) || pmux_open(&pmux, nullptr, nullptr) < 0 ||
                            pmux_decoder_new(&decoder, "UTF-8", PMUX_DECODE_REFUSE, nullptr) < 0)
                                return 1;
                        if (pmux_read(pmux, "nobody", &options, &read, nullptr) == 0)
                                return 2;
                        pmux_read_deinit(&read);
                        pmux_decoder_free(decoder);
                        pmux_close(pmux);
                        return 0;
                }
                """)
        include = ["-I" + os.path.join(TOP, "client", part) for part in ("libpmux", "libpmux-event")]
        lib = os.path.join(BUILD, "lib")
        subprocess.run(["clang", "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", *include, "-c", "-o",
                        path + ".o", path + ".cc"], check=True)
        if os.environ.get("ASAN_OPTIONS"):
            return  # the library wants the sanitizer of the compiler that made it
        subprocess.run(["clang", "-o", path, path + ".o", "-L" + lib, "-Wl,-rpath," + lib, "-lpmux-event", "-lpmux",
                        "-levent_core"], check=True)
        done = subprocess.run([path], env=self.daemon.cli_env(None), timeout=60)
        self.assertEqual(done.returncode, 0)

    def test_the_command_does_not_load_libevent(self):
        with open(os.path.join(BUILD, "bin", "pmux"), "rb") as file:
            self.assertNotIn(b"event_base_", file.read(), "neither linked nor loaded")
        loaded = subprocess.run(["ldd", os.path.join(BUILD, "lib", "libpmux.so")], stdout=subprocess.PIPE,
                                check=True)
        self.assertNotIn(b"libevent", loaded.stdout)

# SPDX-License-Identifier: MIT
"""What a daemon refuses to begin with, and whom it refuses to talk to."""

import os
import shutil
import socket
import stat
import subprocess
import tempfile

from pmux_client import Client, ConnectionLost
from pmux_daemon import Daemon, alive, wait_until
from pmux_test import BUILD, PmuxTest, need


class Startup(PmuxTest):
    def refused(self, *args, **options):
        """Start pmuxd, which must end by itself with a sentence; returns it."""
        daemon = Daemon(BUILD, start=False, root=self.tmp)
        done = subprocess.run([*options.pop("prefix", []), daemon.pmuxd, *args], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=daemon.environment(),
                              timeout=20, **options)
        self.assertGreater(done.returncode, 0, done.stdout)
        self.assertTrue(done.stdout.strip(), "it says nothing")
        return done.stdout.decode("utf-8", "replace")

    def test_socket_path_too_long(self):
        path = os.path.join(self.tmp, "x" * 200)
        text = self.refused("--socket", path, "--state-dir", os.path.join(self.tmp, "state"))
        self.assertIn("107", text)
        done = subprocess.run([os.path.join(BUILD, "bin", "pmux"), "--socket", path, "ps"],
                              stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=20)
        self.assertIn(done.returncode, (1, 2, 125), done)
        self.assertIn(b"107", done.stderr)

    def test_a_second_daemon_on_the_same_socket(self):
        client = self.client()
        text = self.refused("--socket", self.daemon.socket, "--state-dir", os.path.join(self.tmp, "other"))
        self.assertIn(self.daemon.socket, text)
        client.call("version")
        self.daemon.status()  # the socket is still the first one's

    def test_a_second_daemon_on_the_same_state(self):
        client = self.client()
        run = self.sh(client, "exec sleep 1000")
        text = self.refused("--socket", os.path.join(self.tmp, "other"), "--state-dir", self.daemon.state_dir)
        self.assertIn(self.daemon.state_dir, text)
        self.assertTrue(alive(run["pid"]))
        self.assertEqual(client.show(run["id"])["state"], "running")

    def test_a_state_directory_of_another_user(self):
        state = os.path.join(self.tmp, "state")
        os.mkdir(state, 0o700)
        os.chown(state, 65534, 65534)
        self.assertIn(state, self.refused("--socket", os.path.join(self.tmp, "s"), "--state-dir", state))

    def test_a_state_directory_that_others_can_write_to(self):
        state = os.path.join(self.tmp, "state")
        os.mkdir(state)
        for mode in (0o777, 0o770, 0o722):
            os.chmod(state, mode)
            self.assertIn(state, self.refused("--socket", os.path.join(self.tmp, "s"), "--state-dir", state))
        self.assertEqual(os.listdir(state), [], "it wrote there all the same")

    def test_a_state_directory_that_is_a_file(self):
        state = os.path.join(self.tmp, "state")
        with open(state, "w"):
            pass
        self.refused("--socket", os.path.join(self.tmp, "s"), "--state-dir", state)

    def test_a_socket_path_that_is_a_file(self):
        path = os.path.join(self.tmp, "s")
        with open(path, "w") as file:
            file.write("precious")
        self.refused("--socket", path, "--state-dir", os.path.join(self.tmp, "state"))
        with open(path) as file:
            self.assertEqual(file.read(), "precious")

    def test_a_stale_socket_is_replaced(self):
        path = os.path.join(self.tmp, "s")
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(path)
        stale.close()
        daemon = self.new_daemon(socket=path)
        daemon.status()

    def test_modes_of_what_it_makes(self):
        self.client().run(["/bin/true"])
        self.assertEqual(stat.S_IMODE(os.stat(self.daemon.state_dir).st_mode), 0o700)
        for base, dirs, files in os.walk(self.daemon.state_dir):
            for name in dirs + files:
                mode = stat.S_IMODE(os.stat(os.path.join(base, name)).st_mode)
                self.assertEqual(mode & 0o077, 0, "%s/%s has mode %o" % (base, name, mode))

    def test_a_damaged_registry_is_refused_and_left(self):
        self.daemon.status()
        self.daemon.stop()
        files = [f for f in os.listdir(self.daemon.state_dir)
                 if os.path.isfile(os.path.join(self.daemon.state_dir, f))]
        for name in files:
            path = os.path.join(self.daemon.state_dir, name)
            with open(path, "rb") as file:
                if file.read(15) == b"SQLite format 3":
                    break
        else:
            self.fail("no database among %r" % files)
        with open(path, "r+b") as file:
            file.write(b"this is no database" * 100)
        with open(path, "rb") as file:
            before = file.read()
        self.assertIn(name, self.refused("--socket", self.daemon.socket, "--state-dir",
                                         self.daemon.state_dir))
        with open(path, "rb") as file:
            self.assertEqual(file.read(), before)

    def test_another_user_is_denied(self):
        if os.geteuid() != 0:
            self.fail("this test needs root")
        self.daemon.status()
        os.chmod(self.daemon.root, 0o755)
        os.chmod(self.daemon.socket, 0o666)  # the mode does not protect it: the credentials do
        support = os.path.join(self.tmp, "support")
        shutil.copytree(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"), support)
        script = ("import sys\nsys.path.insert(0, %r)\nfrom pmux_client import Client, ConnectionLost\n"
                  "try:\n    Client(%r)\nexcept ConnectionLost as e:\n    print(e.goodbye['data']['code'])\n"
                  "else:\n    print('welcome')\n" % (support, self.daemon.socket))
        python = need("python3")
        done = subprocess.run([need("setpriv"), "--reuid", "65534", "--regid", "65534", "--clear-groups",
                               python, "-B",
                               "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30,
                               cwd="/")
        self.assertEqual(done.stdout.strip(), b"denied")
        cli = os.path.join(self.tmp, "pmux")
        shutil.copy(self.daemon.pmux, cli)
        done = subprocess.run([need("setpriv"), "--reuid", "65534", "--regid", "65534", "--clear-groups", cli,
                               "--socket",
                               self.daemon.socket, "--no-autostart", "ps"], capture_output=True, timeout=30,
                               cwd="/",
                              stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 5, done)
        self.daemon.status()

    def test_root_may_talk_to_a_users_daemon(self):
        if os.geteuid() != 0:
            self.fail("this test needs root")
        root = tempfile.mkdtemp(prefix="pmux-nobody-")
        self.addCleanup(shutil.rmtree, root, ignore_errors=True)
        os.chown(root, 65534, 65534)
        for name in ("pmuxd", "pmux"):
            shutil.copy(os.path.join(BUILD, "bin", name), os.path.join(root, name))
        os.mkdir(os.path.join(root, "bin"))
        for name in ("pmuxd", "pmux"):
            os.rename(os.path.join(root, name), os.path.join(root, "bin", name))
        os.chmod(root, 0o755)
        daemon = Daemon(root, start=False, root=root, prefix=[need("setpriv"), "--reuid", "65534", "--regid",
                                                              "65534",
                                                              "--clear-groups"])
        self._daemons.append(daemon)
        daemon.start()
        client = daemon.client()
        run, subscription = client.run(["/usr/bin/id", "-u"], subscribe=True)
        self.assertEqual(b"".join(r.data for r in subscription.collect()), b"65534\n")
        daemon.stop()

    def test_environment_is_told_where(self):
        daemon = Daemon(BUILD, start=False)
        self._daemons.append(daemon)
        env = daemon.environment()
        env["PMUX_SOCKET"] = os.path.join(daemon.root, "elsewhere")
        env["PMUX_STATE_DIR"] = os.path.join(daemon.root, "elsewhere-state")
        process = subprocess.Popen([daemon.pmuxd], env=env, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)

        def answers():
            try:
                with Client(env["PMUX_SOCKET"]) as client:
                    return client.status()
            except (OSError, ConnectionLost):
                return None
        status = wait_until(answers, what="the daemon")
        self.assertEqual(status["state_dir"], env["PMUX_STATE_DIR"])
        self.assertEqual(status["socket"], env["PMUX_SOCKET"])

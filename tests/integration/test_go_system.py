"""A system of compiled services that nobody prepared: Go, host and port as separate flags, HTTP/2 between services,
generated code that git does not track. From `init` to a fork of a changed revision, by hand as on the first day.

Standard library only, so that nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from harness.project import read_project

GO: Final = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")


def _serves_h2c() -> bool:
    """Whether Go is here, and new enough to serve HTTP/2 without TLS from its standard library."""
    if GO is None:
        return False
    said = subprocess.run([GO, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"go1\.(\d+)", said)
    return version is not None and int(version[1]) >= 24


pytestmark = [
    pytest.mark.skipif(not _serves_h2c(), reason="there is no Go 1.24 or newer here"),
    # A machine without a build cache compiles the standard library first.
    pytest.mark.timeout(400),
]

FILES: Final = {
    "go.mod": "module example.org/rides\n\ngo 1.24\n",
    ".gitignore": "bin/\n/gen/\n",
    "gen/fleet/fleet.go": 'package fleet\n\nconst Name = "yellow"\n',
    "internal/nearest/nearest.go": 'package nearest\n\nfunc Car() string { return "T7205C" }\n',
    "cmd/drivers/main.go": """\
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"

	"example.org/rides/gen/fleet"
	"example.org/rides/internal/nearest"
)

func main() {
	host := flag.String("drivers-host", "0.0.0.0", "where drivers listens")
	port := flag.Int("drivers-port", 8082, "port of drivers")
	flag.Parse()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	http.HandleFunc("POST /rides.Finder/Nearest", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", fleet.Name, nearest.Car(), r.Proto)
	})
	server := http.Server{Addr: fmt.Sprintf("%s:%d", *host, *port), Protocols: protocols}
	log.Fatal(server.ListenAndServe())
}
""",
    "cmd/dispatch/main.go": """\
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
)

var (
	port        = flag.Int("dispatch-port", 8080, "port of dispatch")
	driversHost = flag.String("drivers-host", "localhost", "host of drivers")
	driversPort = flag.Int("drivers-port", 8082, "port of drivers")
)

func main() {
	flag.Parse()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := http.Client{Transport: &http.Transport{Protocols: protocols}}
	target := "http://" + net.JoinHostPort(*driversHost, strconv.Itoa(*driversPort)) + "/rides.Finder/Nearest"
	http.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {})
	http.HandleFunc("GET /dispatch", func(w http.ResponseWriter, r *http.Request) {
		request, _ := http.NewRequestWithContext(r.Context(), "POST", target, nil)
		request.Header.Set("traceparent", r.Header.Get("traceparent"))
		answer, err := client.Do(request)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		io.Copy(w, answer.Body)
	})
	log.Fatal(http.ListenAndServe(fmt.Sprintf(":%d", *port), nil))
}
""",
}


def run(root: Path, *argv: str | Path) -> subprocess.CompletedProcess[str]:
    assert GO is not None
    env = {**os.environ, "PATH": f"{Path(GO).parent}:{os.environ['PATH']}", "GOWORK": "off", "GOTOOLCHAIN": "local"}
    return subprocess.run(
        argv, cwd=root, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def spurline(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(root, Path(sys.executable).with_name("spurline"), *arguments)


def git(root: Path, *arguments: str) -> None:
    done = run(root, "git", "-c", "user.name=Test", "-c", "user.email=test@example.invalid", *arguments)
    assert done.returncode == 0, done.stderr


def answer(root: Path, *options: str) -> dict[str, Any]:
    done = spurline(root, "request", *options, "GET", "/dispatch", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.fixture
def rides(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "rides"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    yield root
    spurline(root, "baseline", "down")


def test_from_init_to_a_fork_of_a_changed_revision(rides: Path) -> None:
    done = spurline(rides, "init")
    assert done.returncode == 0, done.stderr
    services = read_project(rides).settings.baseline.services
    assert services["dispatch"].command == (
        "./bin/dispatch",
        "--dispatch-port=${port}",
        "--drivers-host=${host:drivers}",
        "--drivers-port=${port:drivers}",
    )
    assert (services["drivers"].link, services["drivers"].protocol) == (("gen",), "http2")
    assert services["drivers"].shared == ("internal/nearest", "go.mod")
    git(rides, "add", "-A")
    git(rides, "commit", "-q", "-m", "Spurline")

    done = spurline(rides, "baseline", "up")
    assert done.returncode == 0, done.stdout + done.stderr
    assert answer(rides)["body"] == "yellow T7205C HTTP/2.0"

    nearest = rides / "internal" / "nearest" / "nearest.go"
    git(rides, "switch", "-q", "-c", "change")
    nearest.write_text(nearest.read_text().replace("T7205C", "T9999Z"))
    git(rides, "commit", "-q", "-a", "-m", "another car")
    done = spurline(rides, "sandbox", "create", "one", "--fork", "drivers=change")
    assert done.returncode == 0, done.stdout + done.stderr
    forked = answer(rides, "--sandbox", "one")
    assert forked["body"] == "yellow T9999Z HTTP/2.0"
    served = {hop["service"]: hop["served_by"] for hop in forked["hops"]}
    assert served == {"dispatch": "baseline", "drivers": "fork"}
    assert answer(rides)["body"] == "yellow T7205C HTTP/2.0"

    nearest.write_text("package nearest\n\nfunc Car() string { return 7 }\n")
    git(rides, "commit", "-q", "-a", "-m", "does not compile")
    done = spurline(rides, "sandbox", "update", "one", "--fork", "drivers=change")
    assert done.returncode != 0
    assert "nearest.go:3" in done.stderr
    assert answer(rides, "--sandbox", "one")["body"] == "yellow T9999Z HTTP/2.0"

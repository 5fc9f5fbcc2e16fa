"""`discover` and `render` over small repositories of each kind, against the whole text that they must give.

`WRITE_GOLDENS=1 pytest …` writes the texts anew; what changed is then for a reader to judge.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from harness.discovery import discover, example_ticket, open_ends, render
from harness.project import read_project
from tasks.backlog import read_ticket

GOLDENS: Final = Path(__file__).parent / "goldens" / "discovery"
WRITE: Final = "WRITE_GOLDENS" in os.environ

COMPOSE: Final = {
    "docker-compose.yml": """\
services:
  gateway:
    build: {context: services/gateway}
    ports: ["8080:80"]
    environment:
      - USERS_URL=http://users:8000
      - GREETING=hello
      - LOG_LEVEL=${LOG_LEVEL:-info}
      - SESSION_SECRET
    depends_on: [users, mailer]
    healthcheck:
      test: ["CMD", "curl", "-f", "http://localhost:80/healthz"]
  users:
    build: ./services/users
    expose: ["8000"]
    environment:
      DATABASE_URL: postgres://app:app@db:5432/users
      CACHE_HOST: cache
    env_file: users.env
  mailer:
    build: ./services/mailer
    command: ["--listen=:9000", "--users-host=users", "--users-port=8000"]
    expose: [9000]
  db:
    image: postgres:16
    ports: ["127.0.0.1:15432:5432"]
  cache:
    image: redis:7
""",
    "services/gateway/Dockerfile": 'FROM node:22\nWORKDIR /app\nCOPY . .\nEXPOSE 80\nCMD ["node", "/app/server.js"]\n',
    "services/gateway/package.json": '{"name": "gateway", "scripts": {"start": "node server.js", "lint": "eslint ."},\n'
    ' "dependencies": {"express": "5"}}\n',
    "services/gateway/server.js": "const users = process.env.USERS_URL\napp.listen(process.env.PORT || 80)\n",
    "services/users/Dockerfile": 'FROM python:3.12\nWORKDIR /app\nCOPY . .\nCMD ["uvicorn", "app:app", '
    '"--host", "0.0.0.0", "--port", "8000"]\n',
    "services/users/requirements.txt": "fastapi\n",
    "services/users/app.py": 'from fastapi import FastAPI\n\napp = FastAPI()\n\n\n@app.get("/healthz")\n'
    "def up(): ...\n",
    "services/mailer/Dockerfile": 'FROM golang:1.24\nRUN go build -o /mailer .\nENTRYPOINT ["/mailer"]\n',
    "services/mailer/go.mod": "module example.org/mailer\n\ngo 1.24\n",
    "services/mailer/main.go": """\
package main

import (
	"flag"
	"net/http"
)

func main() {
	listen := flag.String("listen", ":9000", "address")
	host := flag.String("users-host", "localhost", "host of users")
	port := flag.Int("users-port", 8000, "port of users")
	flag.Parse()
	_, _ = host, port
	http.ListenAndServe(*listen, nil)
}
""",
}
PROCFILE: Final = {
    "Procfile": "web: cd web && PORT=5000 BILLING_URL=http://localhost:5001 exec python app.py\n"
    "billing: python billing/server.py --port $PORT\nworker: python worker.py\nrelease: ./migrate.sh\n",
    "web/app.py": 'import os\nfrom flask import Flask\n\napp = Flask("web")\nBILLING = os.environ["BILLING_URL"]\n\n'
    'if __name__ == "__main__":\n    app.run(port=int(os.environ["PORT"]))\n',
    "billing/server.py": "import argparse\n\nparser = argparse.ArgumentParser()\n"
    'parser.add_argument("--port", type=int, default=5001)\n\nif __name__ == "__main__":\n    serve_forever(parser)\n',
    "tests/integration/test_money.py": 'import os\n\nURL = os.environ["SPURLINE_URL"]\n',
    "pyproject.toml": '[project]\nname = "shop"\n\n[tool.ruff]\nline-length = 100\n\n[tool.mypy]\nstrict = true\n',
}
GO: Final = {
    "go.mod": "module example.org/rides\n\ngo 1.24\n",
    "go.sum": "",
    ".gitignore": "/gen/\nbin/\n",
    "gen/driverspb/drivers.pb.go": "package driverspb\n\nfunc RegisterFinderServer() {}\n",
    "cmd/dispatch/main.go": """\
package main

import (
	"flag"
	"net/http"

	"example.org/rides/gen/driverspb"
)

var (
	port        = flag.Int("dispatch-port", 8080, "own port")
	driversHost = flag.String("drivers-host", "localhost", "host of drivers")
	driversPort = flag.Int("drivers-port", 8082, "port of drivers")
)

func main() {
	http.HandleFunc("GET /healthz", ok)
	http.ListenAndServe(":8080", nil)
}
""",
    "cmd/drivers/main.go": """\
package main

import (
	"flag"
	"os"

	"example.org/rides/gen/driverspb"
	"example.org/rides/internal/nearest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	port := flag.Int("drivers-port", 8082, "own port")
	fares := os.Getenv("FARES_ADDR")
	server := grpc.NewServer()
	driverspb.RegisterFinderServer(server, nearest.Finder{})
}
""",
    "cmd/fares/main.go": 'package main\n\nfunc main() {\n\thttp.ListenAndServe(":"+os.Getenv("PORT"), nil)\n}\n',
    "cmd/migrate/main.go": "package main\n\nfunc main() { println() }\n",
    "internal/nearest/nearest.go": "package nearest\n",
    "tests/e2e/rides_test.go": 'package e2e\n\nimport "os"\n\nvar base = os.Getenv("SPURLINE_URL")\n',
}
NODE: Final = {
    "package.json": '{"private": true, "workspaces": ["packages/*"],\n "scripts": {\n  "lint": "eslint .",\n'
    '  "test:e2e": "vitest run e2e"\n }\n}\n',
    "packages/web/package.json": '{"name": "@shop/web", "scripts": {"build": "tsc", "start": "node dist/main.js"},\n'
    ' "dependencies": {"@shop/money": "*"}}\n',
    "packages/web/src/main.ts": 'const cart = process.env.CART_ENDPOINT ?? "localhost:4001"\n'
    "listen(process.env.PORT)\n",
    "packages/cart/package.json": '{"name": "@shop/cart", "scripts": {"start": "NODE_ENV=x node main.js"},\n'
    ' "dependencies": {"@grpc/grpc-js": "1", "@shop/money": "*"}}\n',
    "packages/cart/main.js": "const server = new grpc.Server()\nserver.addService(cart, {})\nbind(process.env.PORT)\n",
    "packages/money/package.json": '{"name": "@shop/money", "main": "index.js"}\n',
    "packages/money/index.js": "module.exports = {}\n",
    "e2e/cart.test.js": "test()\n",
}
PYTHON: Final = {
    "services/orders/pyproject.toml": '[project]\nname = "orders"\n',
    "services/orders/orders/main.py": "import os\nfrom fastapi import FastAPI\n"
    "from libs.money import euro\n\napp = FastAPI()\n"
    'PRICES = os.getenv("PRICES_SERVICE_URL", "http://localhost:9002")\n',
    "services/prices/server.py": "import os\nfrom http.server import HTTPServer\nfrom libs.money import euro\n\n"
    'if __name__ == "__main__":\n    HTTPServer(("", int(os.environ["PRICES_PORT"])), H).serve_forever()\n',
    "services/prices/requirements.txt": "-e ../../libs/money\n",
    "libs/money/__init__.py": "euro = 100\n",
    "services/orders/tests/test_orders.py": "def test(): ...\n",
}
RUST: Final = {
    "Cargo.toml": '[workspace]\nmembers = ["api", "core"]\n',
    "api/Cargo.toml": '[package]\nname = "api"\n\n[dependencies]\ncore = { path = "../core" }\naxum = "0.8"\n',
    "api/src/main.rs": 'fn main() {\n    let port = std::env::var("PORT").unwrap();\n    axum::serve(port);\n}\n',
    "core/Cargo.toml": '[package]\nname = "core"\n',
    "core/src/lib.rs": "pub fn f() {}\n",
    "java/pom.xml": "<project>\n  <artifactId>ledger</artifactId>\n  <version>1.2</version>\n"
    "  <build><plugins><plugin>\n"
    "    <artifactId>spring-boot-maven-plugin</artifactId>\n  </plugin></plugins></build>\n</project>\n",
    "java/src/main/resources/application.properties": "api.base=${API_URL:http://localhost:8000}\n",
}
HAIL: Final = {
    "compose.yml": """\
services:
  frontend:
    build: {context: ., dockerfile: src/frontend/Dockerfile}
    ports: ["${FRONTEND_PORT}:${FRONTEND_PORT}"]
    environment:
      - PORT=${FRONTEND_PORT}
      - CUSTOMER_SERVICE_ADDR
      - DRIVER_SERVICE_ADDR
      - OTEL_RESOURCE_ATTRIBUTES=service.name=frontend
  customer:
    build: ./src/hail
    ports: ["${CUSTOMER_PORT}"]
  driver:
    build: ./src/hail
    ports: ["${DRIVER_PORT:-8082}"]
  loadgenerator:
    build: ./src/load
    environment: [FRONTEND_ADDR]
""",
    ".env": "FRONTEND_PORT=8080\nCUSTOMER_PORT=8081\nCUSTOMER_SERVICE_ADDR=customer:${CUSTOMER_PORT}\n",
    "src/frontend/Dockerfile": "FROM node\nCMD node src/frontend/server.js\n",
    "src/frontend/package.json": '{"scripts": {"start": "node server.js"}}\n',
    "src/frontend/server.js": "serve(process.env.PORT)\n",
    "src/load/package.json": '{"scripts": {"start": "node load.js"}}\n',
    "src/hail/go.mod": "module example.org/hail\n",
    "src/hail/main.go": 'package main\n\nimport "example.org/hail/cmd"\n\nfunc main() { cmd.Run() }\n',
    "src/hail/cmd/customer.go": """\
package cmd

var customer = &cobra.Command{
	Use: "customer",
	RunE: func(cmd *cobra.Command, args []string) error { return server.Run() },
}

func init() {
	customer.Flags().StringVarP(&bind, "bind", "", "0.0.0.0", "interface")
	customer.Flags().IntVarP(&port, "port", "p", 8081, "port")
}
""",
    "src/hail/cmd/driver.go": """\
package cmd

var driver = &cobra.Command{
	Use: "driver",
	RunE: func(cmd *cobra.Command, args []string) error { return server.Run() },
}

func serve() { http.ListenAndServe(address, nil) }
""",
}
CASES: Final[Mapping[str, Mapping[str, str]]] = {
    "compose": COMPOSE,
    "one-binary": HAIL,
    "procfile": PROCFILE,
    "go": GO,
    "node": NODE,
    "python": PYTHON,
    "rust-and-java": RUST,
    "nothing": {"README.md": "# A repository that says nothing\n"},
}


def lay(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("name", CASES)
def test_renders_what_it_found_word_by_word(name: str, tmp_path: Path) -> None:
    text = render(discover(lay(tmp_path / name, CASES[name])))
    golden = GOLDENS / f"{name}.yaml"
    if WRITE:
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", CASES)
def test_what_it_renders_can_be_read_back(name: str, tmp_path: Path) -> None:
    root = lay(tmp_path / name, CASES[name])
    findings = discover(root)
    (root / "spurline.yaml").write_text(render(findings))
    project = read_project(root)
    assert set(project.settings.baseline.services) == {s.name for s in findings.services} or not findings.services
    ticket = root / "example.md"
    ticket.write_text(example_ticket(findings))
    assert read_ticket(ticket).services == (project.settings.baseline.entry,)


def test_names_every_line_that_is_left_to_do(tmp_path: Path) -> None:
    text = render(discover(lay(tmp_path / "nothing", CASES["nothing"])))
    assert any('command: ["TODO"]' in line for _, line in open_ends(text))
    assert text.splitlines()[open_ends(text)[0][0] - 1].strip() == open_ends(text)[0][1]


def test_paths_among_the_arguments_mean_the_same_from_the_folder_of_the_service(tmp_path: Path) -> None:
    main = 'package main\n\nimport "net/http"\n\nfunc main() {\n\thttp.ListenAndServe(addr, nil)\n}\n'
    files = {
        "go.mod": "module example.org/rides\n",
        "cmd/maps/main.go": main,
        "cmd/trips/main.go": main,
        ".gitignore": "/data/\n",
        "data/tiles/all.bin": "tiles",
        "conf/maps.toml": "",
        "Procfile": "maps: bin/maps -tiles data/tiles/all.bin -conf=conf/maps.toml -level conf -listen ./gone/x\n",
    }
    maps = next(one for one in discover(lay(tmp_path, files)).services if one.name == "maps")
    tiles, conf = "../../data/tiles/all.bin", "-conf=../../conf/maps.toml"
    assert maps.command.value == ("./bin/maps", "-tiles", tiles, conf, "-level", "conf", "-listen", "./gone/x")
    assert [link.value for link in maps.link] == ["data"]

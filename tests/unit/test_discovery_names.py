"""Names that mean a neighbour, and addresses that become placeholders."""

from __future__ import annotations

import pytest

from harness.discovery.addresses import Directory, own_port_in, rewrite
from harness.discovery.names import Meaning, meaning, placeholder, service_name

SERVICES = ["gateway", "users", "product-catalog", "payment-service", "client-app"]


@pytest.mark.parametrize(
    ("setting", "means"),
    [
        ("USERS_URL", Meaning("users", "url")),
        ("USER_SERVICE_URL", Meaning("users", "url")),
        ("SHOP_USERS_BASE_URL", Meaning("users", "url")),
        ("PRODUCT_CATALOG_SERVICE_ADDR", Meaning("product-catalog", "address")),
        ("productCatalogEndpoint", Meaning("product-catalog", "address")),
        ("payment-host", Meaning("payment-service", "host")),
        ("--payment-service-port", Meaning("payment-service", "port")),
        ("gateway-port", Meaning(None, "port")),
        ("GRPC_PORT", Meaning(None, "port")),
        ("listen-addr", Meaning(None, "address")),
        ("host", Meaning(None, "host")),
        ("DATABASE_URL", None),
        ("USERS", None),
        ("SUPPORT", None),
        ("LOG_LEVEL", None),
    ],
)
def test_a_name_says_whose_address_it_holds(setting: str, means: Meaning | None) -> None:
    assert meaning(setting, "gateway", SERVICES) == means


@pytest.mark.parametrize(
    ("text", "name"),
    [("Web_App", "web-app"), ("client", "client-app"), ("…", "service"), ("a" * 80, "a" * 63), ("-x-", "x")],
)
def test_any_text_becomes_a_service_name(text: str, name: str) -> None:
    assert service_name(text) == name


def test_a_sample_tells_a_url_from_host_and_port() -> None:
    assert placeholder("users", "address", "localhost:8000") == "${host:users}:${port:users}"
    assert placeholder("users", "address", "http://localhost:8000") == "${url:users}"
    assert placeholder("users", "url", "") == "${url:users}"
    assert placeholder("users", "url", "grpc://localhost:1") == "grpc://${host:users}:${port:users}"
    assert placeholder("users", "host", "http://x") == "${host:users}"


DIRECTORY = Directory(
    {"users": "users", "gateway": "gateway", "web.internal": "web"}, {"db": {5432: 15432}, "cache": {}}
)


@pytest.mark.parametrize(
    ("setting", "value", "becomes"),
    [
        ("USERS_URL", "http://users:8000/v1", "${url:users}/v1"),
        ("USERS_URL", "http://users", "${url:users}"),
        ("USERS", "users:8000", "${host:users}:${port:users}"),
        ("USERS_HOST", "users", "${host:users}"),
        ("TOPIC", "users", "users"),
        ("TABLES", "public.users,users_old", "public.users,users_old"),
        ("PEERS", "users:1,web.internal:2", "${host:users}:${port:users},${host:web}:${port:web}"),
        ("TARGET", "dns:///users:50051", "dns:///users:50051"),
        ("GRPC", "grpc://users:50051", "grpc://${host:users}:${port:users}"),
        ("SELF", "http://gateway:80", "http://127.0.0.1:${port}"),
        ("DATABASE_URL", "postgres://a:b@db:5432/x", "postgres://a:b@127.0.0.1:15432/x"),
        ("LISTEN", "0.0.0.0:80", "127.0.0.1:${port}"),
        ("HTTP_PORT", "80", "${port}"),
        ("RETRIES", "80", "80"),
        ("OTHER", "http://example.org/users:80", "http://example.org/users:80"),
    ],
)
def test_addresses_of_neighbours_become_placeholders(setting: str, value: str, becomes: str) -> None:
    assert rewrite(setting, value, "gateway", frozenset({80}), DIRECTORY).value == becomes


def test_what_a_container_keeps_to_itself_is_left_to_do() -> None:
    assert "cache" in rewrite("CACHE_URL", "redis://cache:6379", "gateway", frozenset(), DIRECTORY).todo


def test_its_own_port_in_a_command() -> None:
    ports = frozenset({8080})
    assert own_port_in("--port=8080", ports) == "--port=${port}"
    assert own_port_in("0.0.0.0:8080", ports) == "127.0.0.1:${port}"
    assert own_port_in("8080", ports) == "${port}"
    assert own_port_in("18080", ports) == "18080"
    assert own_port_in("--size=9000", ports) == "--size=9000"

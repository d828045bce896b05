"""A proxy sees the key only where the caller allows it, whether a URL or the environment names the proxy."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import pytest
from yarl import URL

from imagen_async import ConfigurationError, ImagenClient
from imagen_async.transport.proxy import environment_proxy, read_proxy
from imagen_async.transport.timeouts import Timeouts
from imagen_async.transport.transport import Transport
from tests.servers import answer, reply, serving

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "sk-" + "a9" * 24
GATEWAY = URL("https://gateway.example/v1")


@pytest.mark.parametrize("proxy", ["http://proxy.example:3128", "https://proxy.example", "http://user:word@10.0.0.7:1"])
def test_https_may_go_through_any_proxy(proxy: str) -> None:
    assert read_proxy(proxy, GATEWAY).url == URL(proxy).with_user(None)


@pytest.mark.parametrize("gateway", ["http://localhost/v1", "http://127.0.0.1/v1", "http://gateway.example/v1"])
def test_over_http_a_proxy_on_another_machine_needs_allow_http(gateway: str) -> None:
    with pytest.raises(ConfigurationError, match="through a proxy on another machine"):
        read_proxy("http://proxy.example:3128", URL(gateway))
    assert read_proxy("http://proxy.example:3128", URL(gateway), allow_http=True).url.host == "proxy.example"
    assert read_proxy("http://127.0.0.1:3128", URL(gateway)).url.port == 3128


@pytest.mark.parametrize("proxy", ["proxy.example:3128", "socks5://proxy.example", "http://", "", "http://[::1"])
def test_a_text_that_is_not_a_proxy_s_url_is_refused(proxy: str) -> None:
    with pytest.raises(ConfigurationError, match="the proxy's URL"):
        read_proxy(proxy, GATEWAY)


async def test_a_client_refuses_a_proxy_that_could_read_its_key_and_sends_nothing() -> None:
    async with serving(answer(reply(b"{}"))) as server:
        with pytest.raises(ConfigurationError, match="through a proxy"):
            ImagenClient(KEY, server.base_url, proxy="http://proxy.example:3128")
        assert server.connections == 0


# -- from the environment ---------------------------------------------------------------------------------------------


def use(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    for name, text in environment.items():
        monkeypatch.setenv(name, text)


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, "http://proxy.example:3128"),
        ({"https_proxy": "http://proxy.example:3128"}, "http://proxy.example:3128"),
        ({"HTTPS_PROXY": "proxy.example:3128"}, "http://proxy.example:3128"),
        ({"ALL_PROXY": "http://proxy.example:1"}, "http://proxy.example:1"),
        ({"HTTP_PROXY": "http://proxy.example:1"}, None),
        ({"HTTPS_PROXY": "http://proxy.example:1", "NO_PROXY": "other.example,gateway.example"}, None),
        ({"HTTPS_PROXY": "http://proxy.example:1", "NO_PROXY": ".example"}, None),
        ({"HTTPS_PROXY": "http://proxy.example:1", "NO_PROXY": "gateway.example:443"}, None),
        ({"HTTPS_PROXY": "http://proxy.example:1", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://proxy.example:1", "NO_PROXY": "y.example"}, "http://proxy.example:1"),
    ],
)
def test_the_environment_names_a_proxy_by_the_usual_variables(
    environment: Mapping[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, environment)
    found = environment_proxy(GATEWAY)
    assert (None if found is None else str(found.url).rstrip("/")) == proxy


def test_an_unusable_proxy_of_the_environment_is_named_with_its_variable_and_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(monkeypatch, {"HTTPS_PROXY": "socks5://fox:whiskers@proxy.example"})
    with pytest.raises(ConfigurationError, match="in the environment variable https_proxy") as caught:
        environment_proxy(GATEWAY)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "whiskers" not in shown


def transport_to(base_url: str, *, trust_env: bool) -> Transport:
    return Transport(URL(base_url), KEY, timeouts=Timeouts(), trust_env=trust_env)


@pytest.mark.parametrize("trust_env", [False, True])
async def test_the_environment_s_proxy_is_used_only_if_trusted(
    *, trust_env: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(answer(reply(b"{}"))) as server, serving(answer(reply(b"{}"))) as proxy:
        use(monkeypatch, {"HTTP_PROXY": f"http://fox:whiskers@127.0.0.1:{proxy.port}"})
        transport = transport_to(server.base_url, trust_env=trust_env)
        await transport.open()
        async with transport.post("/images/generations", b"{}", {}) as response:
            assert response.status == 200
        assert (len(server.asked), len(proxy.asked)) == ((0, 1) if trust_env else (1, 0))
        assert all("Proxy-Authorization" in asked.headers for asked in proxy.asked)
        assert transport.mask("the words fox:whiskers") == (
            "the words fox:***" if trust_env else "the words fox:whiskers"
        )
        await transport.close()


def test_over_http_the_environment_s_proxy_on_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, {"HTTP_PROXY": "http://proxy.example:3128"})
    with pytest.raises(ConfigurationError, match=r"environment variable http_proxy.*another machine"):
        transport_to("http://localhost:1/v1", trust_env=True)


@pytest.mark.parametrize(
    ("options", "environment", "asked"),
    [
        ({}, {}, [1, 0, 0]),
        ({"trust_env": True}, {}, [0, 1, 0]),
        ({"trust_env": True}, {"NO_PROXY": "127.0.0.1"}, [1, 0, 0]),
        ({"trust_env": True}, {"NO_PROXY": "gateway.example"}, [0, 1, 0]),
        ({"trust_env": True, "proxy": "another"}, {}, [0, 0, 1]),
    ],
)
async def test_a_client_uses_the_environment_s_proxy_if_told_to_and_no_other_is_set(
    options: dict[str, Any], environment: Mapping[str, str], asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = reply(b'{"data": [{"id": "imagen"}]}')
    async with serving(answer(models)) as server, serving(answer(models)) as proxy, serving(answer(models)) as another:
        use(monkeypatch, {"http_proxy": f"http://127.0.0.1:{proxy.port}", **environment})
        if "proxy" in options:
            options = {**options, "proxy": f"http://127.0.0.1:{another.port}"}
        async with ImagenClient(KEY, server.base_url, **options) as client:
            assert await client.list_models() == ("imagen",)
        assert [len(each.asked) for each in (server, proxy, another)] == asked


def test_a_client_refuses_an_environment_whose_proxy_could_read_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, {"http_proxy": "http://proxy.example:3128"})
    with pytest.raises(ConfigurationError, match="environment variable http_proxy"):
        ImagenClient(KEY, "http://localhost:1/v1", trust_env=True)

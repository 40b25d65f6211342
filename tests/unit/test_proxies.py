import pytest

from waportd import proxies


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("http://proxy:3128", "http://proxy:3128"),
        ("socks5://[::1]:1080", "socks5://[::1]:1080"),
        ("http://ana:hidden@proxy:3128", "http://ana:***@proxy:3128"),
        ("https://a%40b:hid%2Fden@[::1]:1", "https://a%40b:***@[::1]:1"),
    ],
)
def test_a_proxy_is_shown_without_its_password(proxy, shown):
    assert proxies.shown(proxy) == shown
    assert proxies.has_password(proxy) == ("hid" in proxy)

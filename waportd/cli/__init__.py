"""The program ``waportctl``: one module per concern, built upon `waportd.client`."""

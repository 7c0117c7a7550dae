"""The organizations' vaults: wrap, unwrap, and what an answer means."""

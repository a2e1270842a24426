"""Who a node is, and whom it trusts."""

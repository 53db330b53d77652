"""What the product is: pure knowledge of Ektron, without any IO."""

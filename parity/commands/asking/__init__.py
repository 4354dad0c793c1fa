"""What commands ask their users for, and its checks."""

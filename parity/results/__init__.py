"""What a comparison says: records, their JSON, and texts made of them."""

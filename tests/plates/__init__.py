"""The article's number-plate pipeline, put together from its nets and our own model files."""

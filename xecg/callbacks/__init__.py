"""Layer freezing and relevance logging."""

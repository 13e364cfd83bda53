"""A pod, decoded, and what its parts say."""

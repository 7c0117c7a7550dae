"""Who calls, and what it may do: TokenReview and SubjectAccessReview."""

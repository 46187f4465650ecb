"""What depth models and matchers of other libraries have in common: folders, licences, weights."""

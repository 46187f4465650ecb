"""A reconstruction as a person sees it: windows, pictures and the report page."""

"""Records: what every measurement writes, and what tables, pages and comparisons read."""

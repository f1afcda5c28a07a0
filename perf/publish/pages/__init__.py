"""The pages of the site, one module each: what a template shows, made of records and judgements."""

"""Parts that more than one family uses. No family is named in here."""

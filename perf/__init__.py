"""The suite: what is measured, how, and the records it leaves. Knows ``analysis``, never the reverse."""

"""Other orders of the same neurons, beside that by predictivity: why not simply...?"""

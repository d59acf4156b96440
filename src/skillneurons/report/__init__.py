"""What came of a run or a study as one page: `report.html`, a file that opens from disk and asks nobody for anything.

`report` takes a folder and writes its page; `of_run` and `of_study` put the page together from tables, pictures
(`svg`), claims (`claims`), the neurons that can be looked up (`neurons`) and the commands that made each part
(`command`); `page` makes one file of it, with the template, the style and the script beside it.
"""

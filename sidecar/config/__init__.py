"""From a document to the settings (`core/config.py`), and back to words.

document, document_text       the text as a tree without types, in which everything knows its place
units, addresses, value_types  how the value of a key is written, read, shown and described
keys                          the blocks of keys, as the dataclasses declare them
reader, sections, build       document → typed sections → layers merged, defaults filled in
lint, lint_*                  what is allowed but certainly a mistake, and what does not fit together
load, change                  all of that in order; what a reload changes
problem, problem_report       what is wrong, where, and how it is told
json_schema, settings_view, request_explanation   the keys, the settings in force and one request explained
"""

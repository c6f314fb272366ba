"""The panel. Imports no host.

Data without gradio: request, corrections, painted_region, report, report_data, report_rows, corrected_prompt,
preset_file.
HTML without gradio: messages, concept_table, canvas. Gradio components: panel, controls, preset_bar, prompt_reader.
"""

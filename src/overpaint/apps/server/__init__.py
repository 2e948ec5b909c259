"""The HTTP server: one engine behind the native API, OpenAI's image edits, and OIP v2.

    guard (keys, bodies) → native | openai | oip → intake (bytes → request) → service → Batcher

docs/serving.md describes it. Only this package knows HTTP, and only this package is asynchronous.
"""

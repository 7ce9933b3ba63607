"""Web page and HTTP API over a trained run.

`app.create_app` builds both around one `work.WorkQueue`, so that the model serves one request at a
time. `studio.Studio` is the only module that calls the pipeline.
"""

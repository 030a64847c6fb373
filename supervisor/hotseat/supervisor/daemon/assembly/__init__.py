"""Composition before life: one module a layer; no task, socket or process before all is made."""

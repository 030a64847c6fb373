"""Names that vulture finds no user of, and who uses them. Read by vulture alone, never imported.

What is listed here is used by Python, by a library, by clients of the wire or by people who read a
file; what nobody uses is deleted instead.
"""

_.__getattr__  # Python: late imports of hotseat.client
_.__dir__  # Python: the same
_.__cause__  # Python: shown with the error
_.http_status  # error table of docs/protocol.md
_.thinking  # model.json: what the template knows
_.registered_at  # model.json: for people
_.mlx_lm_version  # model.json: for people
_.max_frames  # wire: limits told in the welcome
_.max_message_bytes  # wire: the same
_.max_depth  # wire: the same
_.max_items  # wire: the same
_.features  # wire: what the daemon can
_.expected_wait_s  # wire: accepted
_.logprob  # wire: a token's
_.disk_tokens  # wire: usage
_.model_asked  # wire: cause of a swap
_.runtime_bytes  # wire: a sample, read by name where memory is drawn
_.other_bytes  # wire: the same
_.there_s  # models --for --json: for programs
_.doctor  # command, named in cli/group.py
_.upgrade  # command, named in cli/group.py
_.mlx_lm  # upgrade --check: for people
_.help_  # command, named in cli/group.py
_.import_  # command, named in cli/group.py
_.ps  # command, named in cli/group.py
_.list_  # command, registered by click
_.unpin  # command, registered by click
_.default_map  # click reads it
_.list_commands  # click calls it
_.format_commands  # click calls it
_.on_broken_pipe  # rich calls it
_.raiseExceptions  # logging reads it
_._open  # logging calls it
_.pre_tokenizer  # tokenizers reads it
_.decoder  # tokenizers reads it
_.normalizer  # tokenizers reads it
_.post_processor  # tokenizers reads it
_._offset  # mlx-lm's caches read it
_.ModuleType  # a quoted type, which mypy reads
_.files_written  # counter of the writer's thread, compared with its reports by tests
_.gateway  # command, named in cli/group.py
_.launch  # command, named in cli/group.py
_.revoke  # command, registered by click
_.should_exit  # uvicorn reads it
_.main_loop  # uvicorn calls it
_.repeat_penalty  # option of `run`, read by name
_.IGNORED  # fields of HTTP bodies that are known and mean nothing here
_.main_loop  # uvicorn calls it
_.app  # of a connection: what answers its next request
_.__class__  # a streamed layer is what its class makes it

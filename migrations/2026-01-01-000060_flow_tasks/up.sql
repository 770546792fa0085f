CREATE TABLE flow_tasks (
    environment_id uuid NOT NULL CONSTRAINT flow_tasks_environment_id_fkey
        REFERENCES environments (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    flow_id uuid,
    kind text NOT NULL CONSTRAINT flow_tasks_kind_check CHECK (kind IN ('csv', 'manual', 'move', 'cancel')),
    is_test boolean NOT NULL,
    header jsonb NOT NULL DEFAULT '[]' CONSTRAINT flow_tasks_header_check CHECK (jsonb_typeof(header) = 'array'),
    version integer,
    status text NOT NULL CONSTRAINT flow_tasks_status_check
        CHECK (status IN ('receiving', 'pending', 'processing', 'complete', 'failed')),
    rows_total bigint NOT NULL DEFAULT 0,
    rows_accepted bigint NOT NULL DEFAULT 0,
    rows_ignored bigint NOT NULL DEFAULT 0,
    rows_rejected bigint NOT NULL DEFAULT 0,
    errors jsonb NOT NULL DEFAULT '[]',
    part integer NOT NULL DEFAULT 0,
    parts integer NOT NULL DEFAULT 0,
    place uuid,
    attempts smallint NOT NULL DEFAULT 0,
    lease uuid,
    leased_until timestamptz,
    turn_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    CONSTRAINT flow_tasks_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT flow_tasks_flow_check CHECK (flow_id IS NOT NULL OR (kind = 'csv' AND is_test)),
    CONSTRAINT flow_tasks_version_check CHECK ((version IS NOT NULL) = (kind IN ('move', 'cancel'))),
    CONSTRAINT flow_tasks_finished_at_check CHECK ((status IN ('complete', 'failed')) = (finished_at IS NOT NULL))
) WITH (fillfactor = 50);

CREATE INDEX flow_tasks_turn_at_idx ON flow_tasks (turn_at) WHERE status IN ('receiving', 'pending', 'processing');

COMMENT ON TABLE flow_tasks IS 'What is done to many customers or runs in the background: what was asked for, and how far it is';
COMMENT ON COLUMN flow_tasks.flow_id IS 'Null where each row names the flow that it tests';
COMMENT ON COLUMN flow_tasks.header IS 'The names of the columns of a file';
COMMENT ON COLUMN flow_tasks.version IS 'The published version to which older runs move, or before which they are cancelled';
COMMENT ON COLUMN flow_tasks.part IS 'The part that is started next; moves in the transaction that starts it';
COMMENT ON COLUMN flow_tasks.place IS 'The last run that was looked at; moves with what was done to it';
COMMENT ON COLUMN flow_tasks.attempts IS 'How often in a row the next step has broken';
COMMENT ON COLUMN flow_tasks.lease IS 'The fence of the worker that has the task';

CREATE TABLE flow_task_parts (
    environment_id uuid NOT NULL,
    task_id uuid NOT NULL,
    part integer NOT NULL,
    first_row bigint NOT NULL,
    rows jsonb NOT NULL,
    CONSTRAINT flow_task_parts_pkey PRIMARY KEY (environment_id, task_id, part),
    CONSTRAINT flow_task_parts_environment_id_task_id_fkey FOREIGN KEY (environment_id, task_id)
        REFERENCES flow_tasks (environment_id, id) ON DELETE CASCADE
);

COMMENT ON TABLE flow_task_parts IS 'Rows of tasks that are not started yet; a row is a list of cells, or the text of what is wrong with it';

ALTER TABLE triggers
    DROP CONSTRAINT triggers_kind_check,
    ADD COLUMN event_name text,
    ADD COLUMN condition jsonb,
    ADD COLUMN event_template_id uuid,
    ADD COLUMN event_flow_id uuid,
    ADD COLUMN since_xid bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT triggers_kind_check CHECK (kind IN ('api', 'webhook', 'event')),
    ADD CONSTRAINT triggers_event_name_check CHECK ((kind = 'event') = (event_name IS NOT NULL)),
    ADD CONSTRAINT triggers_event_check CHECK (
        kind = 'event' OR (condition IS NULL AND event_template_id IS NULL AND event_flow_id IS NULL)),
    ADD CONSTRAINT triggers_event_mode_check CHECK (kind <> 'event' OR mode IN ('live', 'disabled'));

CREATE INDEX triggers_event_idx ON triggers (environment_id) WHERE kind = 'event' AND mode = 'live';

COMMENT ON COLUMN triggers.event_name IS 'The type of event that fires an event trigger: a standard name, or custom: and a name';
COMMENT ON COLUMN triggers.condition IS 'What must hold of the envelope besides';
COMMENT ON COLUMN triggers.event_template_id IS 'Only events of cards of this template fire';
COMMENT ON COLUMN triggers.event_flow_id IS 'Only events that stem from this flow fire';
COMMENT ON COLUMN triggers.since_xid IS 'Events recorded by later transactions fire, those recorded before the trigger went live do not';

-- No foreign key: a row per event must not lock the one trigger that all of them share. Whoever finds its trigger gone drops it.
CREATE TABLE trigger_firings (
    environment_id uuid NOT NULL,
    trigger_id uuid NOT NULL,
    event_id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    claim uuid,
    CONSTRAINT trigger_firings_pkey PRIMARY KEY (environment_id, trigger_id, event_id)
) WITH (fillfactor = 70);

CREATE INDEX trigger_firings_due_idx ON trigger_firings (environment_id, due_at, event_id);

COMMENT ON TABLE trigger_firings IS 'Events that fire a trigger and have not started its flow yet; each leaves in the transaction of the start';
COMMENT ON COLUMN trigger_firings.claim IS 'The fence: changes with every taking, and the start asks for it';

CREATE TABLE trigger_events (
    environment_id uuid NOT NULL,
    trigger_id uuid NOT NULL,
    id uuid NOT NULL,
    event_id uuid NOT NULL,
    at timestamptz NOT NULL,
    outcome text NOT NULL,
    detail text,
    invocation text,
    CONSTRAINT trigger_events_pkey PRIMARY KEY (environment_id, trigger_id, outcome, id),
    CONSTRAINT trigger_events_trigger_id_fkey FOREIGN KEY (environment_id, trigger_id)
        REFERENCES triggers (environment_id, id) ON DELETE CASCADE
);

COMMENT ON TABLE trigger_events IS 'The last events of each outcome that event triggers were asked about, and why they did or did not start a run';

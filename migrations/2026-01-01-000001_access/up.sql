CREATE TABLE instance_setup (
    only_one boolean NOT NULL DEFAULT true CONSTRAINT instance_setup_pkey PRIMARY KEY
        CONSTRAINT instance_setup_only_one_check CHECK (only_one),
    token_hash bytea NOT NULL,
    completed_at timestamptz
);
COMMENT ON TABLE instance_setup IS 'The one row that says with which token this instance may be set up, and when it was.';

CREATE TABLE members (
    organisation_id uuid NOT NULL CONSTRAINT members_organisation_id_fkey REFERENCES organisations (id),
    id uuid NOT NULL,
    first_name text NOT NULL CONSTRAINT members_first_name_check CHECK (length(first_name) <= 256),
    last_name text NOT NULL CONSTRAINT members_last_name_check CHECK (length(last_name) <= 256),
    email text NOT NULL CONSTRAINT members_email_check CHECK (email = lower(email)),
    user_id text NOT NULL CONSTRAINT members_user_id_check CHECK (length(user_id) BETWEEN 1 AND 256),
    password_hash text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    CONSTRAINT members_pkey PRIMARY KEY (organisation_id, id),
    CONSTRAINT members_id_key UNIQUE (id),
    CONSTRAINT members_email_key UNIQUE (email),
    CONSTRAINT members_organisation_id_user_id_key UNIQUE (organisation_id, user_id)
);
COMMENT ON TABLE members IS 'People who work in the workbench. They sign in by address, so an address is unique on the server.';

CREATE TABLE member_sessions (
    token_hash bytea CONSTRAINT member_sessions_pkey PRIMARY KEY,
    member_id uuid NOT NULL CONSTRAINT member_sessions_member_id_fkey REFERENCES members (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL
);
CREATE INDEX member_sessions_member_id_idx ON member_sessions (member_id);
CREATE INDEX member_sessions_last_used_at_idx ON member_sessions (last_used_at);
COMMENT ON TABLE member_sessions IS 'Who is signed in: only hashes of the tokens. Use is noted once a minute.';

CREATE TABLE sign_in_attempts (
    email_hash bytea CONSTRAINT sign_in_attempts_pkey PRIMARY KEY,
    attempts integer NOT NULL,
    began_at timestamptz NOT NULL,
    locked_until timestamptz
);
CREATE INDEX sign_in_attempts_began_at_idx ON sign_in_attempts (began_at);
COMMENT ON TABLE sign_in_attempts IS 'Sign-ins that have not succeeded, by address whether or not a member has it; success deletes the row.';

CREATE TABLE roles (
    organisation_id uuid NOT NULL CONSTRAINT roles_organisation_id_fkey REFERENCES organisations (id),
    id uuid NOT NULL,
    built_in text CONSTRAINT roles_built_in_check CHECK (built_in IN ('owner', 'admin', 'editor')),
    title text NOT NULL CONSTRAINT roles_title_check CHECK (length(title) BETWEEN 1 AND 256),
    description text NOT NULL DEFAULT '' CONSTRAINT roles_description_check CHECK (length(description) <= 2048),
    levels jsonb NOT NULL CONSTRAINT roles_levels_check CHECK (jsonb_typeof(levels) = 'object'),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    CONSTRAINT roles_pkey PRIMARY KEY (organisation_id, id),
    CONSTRAINT roles_organisation_id_title_key UNIQUE (organisation_id, title),
    CONSTRAINT roles_organisation_id_built_in_key UNIQUE (organisation_id, built_in)
);
COMMENT ON TABLE roles IS 'A level for each resource. The levels of the three default roles are in the code, their rows only name them.';

CREATE TABLE groups (
    organisation_id uuid NOT NULL CONSTRAINT groups_organisation_id_fkey REFERENCES organisations (id),
    id uuid NOT NULL,
    title text NOT NULL CONSTRAINT groups_title_check CHECK (length(title) BETWEEN 1 AND 256),
    description text NOT NULL DEFAULT '' CONSTRAINT groups_description_check CHECK (length(description) <= 2048),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    CONSTRAINT groups_pkey PRIMARY KEY (organisation_id, id),
    CONSTRAINT groups_organisation_id_title_key UNIQUE (organisation_id, title)
);
COMMENT ON TABLE groups IS 'Members get their roles through groups.';

CREATE TABLE group_roles (
    organisation_id uuid NOT NULL,
    group_id uuid NOT NULL,
    role_id uuid NOT NULL,
    environment_ids uuid[],
    CONSTRAINT group_roles_pkey PRIMARY KEY (organisation_id, group_id, role_id),
    CONSTRAINT group_roles_organisation_id_group_id_fkey
        FOREIGN KEY (organisation_id, group_id) REFERENCES groups (organisation_id, id) ON DELETE CASCADE,
    CONSTRAINT group_roles_organisation_id_role_id_fkey
        FOREIGN KEY (organisation_id, role_id) REFERENCES roles (organisation_id, id)
);
CREATE INDEX group_roles_organisation_id_role_id_idx ON group_roles (organisation_id, role_id);
COMMENT ON TABLE group_roles IS 'The roles of a group: in the listed environments, or in all of them where the list is null.';

CREATE TABLE group_members (
    organisation_id uuid NOT NULL,
    group_id uuid NOT NULL,
    member_id uuid NOT NULL,
    CONSTRAINT group_members_pkey PRIMARY KEY (organisation_id, group_id, member_id),
    CONSTRAINT group_members_organisation_id_group_id_fkey
        FOREIGN KEY (organisation_id, group_id) REFERENCES groups (organisation_id, id),
    CONSTRAINT group_members_organisation_id_member_id_fkey
        FOREIGN KEY (organisation_id, member_id) REFERENCES members (organisation_id, id) ON DELETE CASCADE
);
CREATE INDEX group_members_organisation_id_member_id_idx ON group_members (organisation_id, member_id);
COMMENT ON TABLE group_members IS 'Who is in which group.';

CREATE TABLE member_invitations (
    organisation_id uuid NOT NULL CONSTRAINT member_invitations_organisation_id_fkey REFERENCES organisations (id),
    id uuid NOT NULL,
    first_name text NOT NULL CONSTRAINT member_invitations_first_name_check CHECK (length(first_name) <= 256),
    last_name text NOT NULL CONSTRAINT member_invitations_last_name_check CHECK (length(last_name) <= 256),
    email text NOT NULL CONSTRAINT member_invitations_email_check CHECK (email = lower(email)),
    group_ids uuid[] NOT NULL,
    token_hash bytea NOT NULL,
    invited_by uuid NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    accepted_at timestamptz,
    revoked_at timestamptz,
    CONSTRAINT member_invitations_pkey PRIMARY KEY (organisation_id, id),
    CONSTRAINT member_invitations_token_hash_key UNIQUE (token_hash)
);
COMMENT ON TABLE member_invitations IS 'People asked to become members. The token in the link is stored as a hash.';

CREATE TABLE api_credentials (
    environment_id uuid NOT NULL CONSTRAINT api_credentials_environment_id_fkey REFERENCES environments (id),
    id uuid NOT NULL,
    name text NOT NULL CONSTRAINT api_credentials_name_check CHECK (length(name) <= 1024),
    role text NOT NULL CONSTRAINT api_credentials_role_check CHECK (role IN ('workbench', 'events', 'auth')),
    secret_hash bytea NOT NULL,
    last_used_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    CONSTRAINT api_credentials_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT api_credentials_id_key UNIQUE (id)
);
COMMENT ON TABLE api_credentials IS 'Servers that call the API. Every request looks here, so a deleted row ends them at once.';

CREATE TABLE sdk_keys (
    environment_id uuid NOT NULL CONSTRAINT sdk_keys_environment_id_fkey REFERENCES environments (id),
    id uuid NOT NULL,
    name text NOT NULL CONSTRAINT sdk_keys_name_check CHECK (length(name) BETWEEN 1 AND 256),
    kind text NOT NULL CONSTRAINT sdk_keys_kind_check CHECK (kind IN ('public-key', 'jwks')),
    public_key text,
    jwks jsonb,
    max_token_days integer NOT NULL CONSTRAINT sdk_keys_max_token_days_check CHECK (max_token_days BETWEEN 1 AND 30),
    allowed_issuers text[] NOT NULL,
    allowed_audiences text[] NOT NULL,
    user_id_claim text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    CONSTRAINT sdk_keys_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT sdk_keys_environment_id_name_key UNIQUE (environment_id, name),
    CONSTRAINT sdk_keys_public_key_check CHECK (
        (kind = 'public-key' AND public_key IS NOT NULL AND jwks IS NULL)
        OR (kind = 'jwks' AND public_key IS NULL AND jwks IS NOT NULL))
);
CREATE INDEX sdk_keys_name_idx ON sdk_keys (name);
COMMENT ON TABLE sdk_keys IS 'Public keys that sign the tokens of customers in apps. The name is what an SDK sends.';

CREATE TABLE audit_entries (
    organisation_id uuid NOT NULL CONSTRAINT audit_entries_organisation_id_fkey REFERENCES organisations (id),
    id uuid NOT NULL,
    environment_id uuid,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    object_type text NOT NULL,
    object_id text NOT NULL,
    fields text[] NOT NULL,
    address text,
    CONSTRAINT audit_entries_pkey PRIMARY KEY (organisation_id, id)
);
CREATE INDEX audit_entries_organisation_id_environment_id_id_idx ON audit_entries (organisation_id, environment_id, id);
COMMENT ON TABLE audit_entries IS 'Who changed what, and from where. Ids are text: the things and people may be gone.';

-- Deletes an environment with all its rows. Tables are emptied in whatever order their foreign keys allow; the audit
-- log stays, for it belongs to the organisation.
CREATE FUNCTION delete_environment(env uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    waiting text[];
    blocked text[];
    tenant text;
BEGIN
    SELECT array_agg(format('%I', relation.relname)) INTO waiting
    FROM pg_class relation JOIN pg_attribute attribute ON attribute.attrelid = relation.oid
    WHERE relation.relnamespace = current_schema()::regnamespace
      AND relation.relkind IN ('r', 'p') AND NOT relation.relispartition
      AND attribute.attname = 'environment_id' AND NOT attribute.attisdropped
      AND relation.relname <> 'audit_entries';
    WHILE cardinality(waiting) > 0 LOOP
        blocked := '{}';
        FOREACH tenant IN ARRAY waiting LOOP
            BEGIN
                EXECUTE format('DELETE FROM %s WHERE environment_id = $1', tenant) USING env;
            EXCEPTION WHEN foreign_key_violation THEN
                blocked := blocked || tenant;
            END;
        END LOOP;
        IF cardinality(blocked) = cardinality(waiting) THEN
            RAISE EXCEPTION 'tables % hold one another', blocked;
        END IF;
        waiting := blocked;
    END LOOP;
    DELETE FROM environments WHERE id = env;
END $$;

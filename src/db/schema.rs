// @generated automatically by Diesel CLI.

diesel::table! {
    api_credentials (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        name -> Text,
        role -> Text,
        secret_hash -> Bytea,
        last_used_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        revision -> Int4,
    }
}

diesel::table! {
    audit_entries (organisation_id, id) {
        organisation_id -> Uuid,
        id -> Uuid,
        environment_id -> Nullable<Uuid>,
        at -> Timestamptz,
        actor -> Text,
        action -> Text,
        object_type -> Text,
        object_id -> Text,
        fields -> Array<Text>,
        address -> Nullable<Text>,
    }
}

diesel::table! {
    batches (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        flow_id -> Uuid,
        flow_version -> Int4,
        is_test -> Bool,
        source -> Text,
        trigger_id -> Nullable<Uuid>,
        templates -> Jsonb,
        definition -> Nullable<Jsonb>,
        accepted_at -> Timestamptz,
    }
}

diesel::table! {
    card_template_versions (environment_id, template_id, version) {
        environment_id -> Uuid,
        template_id -> Uuid,
        version -> Int4,
        state -> Text,
        name -> Text,
        content -> Jsonb,
        digest -> Bytea,
        published_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    card_templates (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        name -> Text,
        state -> Text,
        published_version -> Nullable<Int4>,
        draft_version -> Nullable<Int4>,
        archived_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        revision -> Int4,
    }
}

diesel::table! {
    cards (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        customer_id -> Uuid,
        user_id -> Text,
        template_id -> Uuid,
        template_name -> Text,
        template_version -> Int4,
        send_notifications -> Bool,
        lifecycle_id -> Uuid,
        flow_id -> Uuid,
        flow_version -> Int4,
        run_id -> Uuid,
        step_key -> Text,
        invocation -> Text,
        trigger_source -> Text,
        is_test -> Bool,
        status -> Text,
        priority -> Int2,
        stream_ids -> Nullable<Array<Uuid>>,
        target_platforms -> Array<Text>,
        embargo_at -> Nullable<Timestamptz>,
        expires_at -> Nullable<Timestamptz>,
        unsnooze_at -> Nullable<Timestamptz>,
        due_at -> Nullable<Timestamptz>,
        published_at -> Nullable<Timestamptz>,
        active_since -> Nullable<Timestamptz>,
        closed_at -> Nullable<Timestamptz>,
        snooze_interval -> Nullable<Text>,
        definition -> Json,
        runtime_variables -> Json,
        variables -> Json,
        detail -> Json,
        metadata -> Json,
        notification_detail -> Json,
        card_options -> Json,
        response -> Nullable<Jsonb>,
        button_name -> Nullable<Text>,
        unseen -> Bool,
        feed_version -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    consumers (name, shard) {
        name -> Text,
        shard -> Int2,
        xid -> Int8,
        event_id -> Uuid,
        lease -> Nullable<Uuid>,
        holder -> Nullable<Text>,
        leased_until -> Nullable<Timestamptz>,
        moved_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    container_keys (environment_id, container_id, sdk_key_id) {
        environment_id -> Uuid,
        container_id -> Uuid,
        sdk_key_id -> Uuid,
    }
}

diesel::table! {
    containers (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        name -> Text,
        card_limit -> Int4,
        stream_id -> Uuid,
        theme_id -> Uuid,
        dark_theme_id -> Nullable<Uuid>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        revision -> Int4,
    }
}

diesel::table! {
    customers (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        user_id -> Text,
        user_type -> Text,
        external_id -> Nullable<Text>,
        name -> Nullable<Text>,
        email -> Nullable<Text>,
        phone -> Nullable<Text>,
        city -> Nullable<Text>,
        region -> Nullable<Text>,
        country -> Nullable<Text>,
        timezone -> Nullable<Text>,
        custom -> Jsonb,
        tags -> Array<Text>,
        preferences -> Jsonb,
        preferences_updated_at -> Nullable<Timestamptz>,
        first_seen_at -> Nullable<Timestamptz>,
        last_seen_at -> Nullable<Timestamptz>,
        last_web_seen_at -> Nullable<Timestamptz>,
        last_ios_seen_at -> Nullable<Timestamptz>,
        last_android_seen_at -> Nullable<Timestamptz>,
        last_web_device -> Nullable<Text>,
        last_ios_device -> Nullable<Text>,
        last_android_device -> Nullable<Text>,
        last_web_sdk_version -> Nullable<Text>,
        last_ios_sdk_version -> Nullable<Text>,
        last_android_sdk_version -> Nullable<Text>,
        last_app_version -> Nullable<Text>,
        last_published_card_at -> Nullable<Timestamptz>,
        last_displayed_card_at -> Nullable<Timestamptz>,
        last_completed_card_at -> Nullable<Timestamptz>,
        last_dismissed_card_at -> Nullable<Timestamptz>,
        last_expired_card_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    effect_attempts (environment_id, run_id, step_key, attempt) {
        environment_id -> Uuid,
        run_id -> Uuid,
        step_key -> Text,
        attempt -> Int2,
        status -> Text,
        http_status -> Nullable<Int2>,
        error -> Nullable<Text>,
        started_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    effects (environment_id, run_id, step_key) {
        environment_id -> Uuid,
        run_id -> Uuid,
        step_key -> Text,
        status -> Text,
        method -> Text,
        url -> Text,
        headers -> Jsonb,
        body -> Nullable<Text>,
        timeout_seconds -> Int2,
        attempts -> Int2,
        failures -> Int2,
        interruptions -> Int2,
        due_at -> Timestamptz,
        lease -> Nullable<Uuid>,
        outcome -> Nullable<Jsonb>,
        created_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
        credential_id -> Nullable<Uuid>,
    }
}

diesel::table! {
    environments (id) {
        id -> Uuid,
        organisation_id -> Uuid,
        name -> Text,
        time_zone -> Text,
        expose_metadata_to_sdk -> Bool,
        webhook_signature_header -> Text,
        webhook_signature_encoding -> Text,
        archived_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        revision -> Int4,
        registered_documents_only -> Bool,
        export_test_cards -> Bool,
        export_request_payload -> Bool,
        export_card_response -> Bool,
    }
}

diesel::table! {
    events (environment_id, id, received_at) {
        environment_id -> Uuid,
        id -> Uuid,
        name -> Text,
        custom -> Bool,
        customer_id -> Nullable<Uuid>,
        end_user_id -> Nullable<Text>,
        occurred_at -> Timestamptz,
        received_at -> Timestamptz,
        xid -> Int8,
        is_test -> Bool,
        template_id -> Nullable<Uuid>,
        flow_id -> Nullable<Uuid>,
        run_id -> Nullable<Uuid>,
        card_id -> Nullable<Uuid>,
        payload -> Text,
    }
}

diesel::table! {
    export_chunks (environment_id, hour, claim, format, number) {
        environment_id -> Uuid,
        hour -> Timestamptz,
        claim -> Uuid,
        format -> Text,
        number -> Int4,
        bytes -> Bytea,
    }
}

diesel::table! {
    export_hours (hour) {
        hour -> Timestamptz,
        from_xid -> Int8,
        to_xid -> Int8,
    }
}

diesel::table! {
    exports (environment_id, hour) {
        environment_id -> Uuid,
        hour -> Timestamptz,
        status -> Text,
        due_at -> Timestamptz,
        attempts -> Int2,
        claim -> Nullable<Uuid>,
        events -> Int8,
        ndjson_bytes -> Int8,
        parquet_bytes -> Int8,
        ready_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    feed_changes (environment_id, customer_id, version, card_id, created_at) {
        environment_id -> Uuid,
        customer_id -> Uuid,
        version -> Int8,
        card_id -> Uuid,
        op -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    feed_heads (environment_id, customer_id) {
        environment_id -> Uuid,
        customer_id -> Uuid,
        epoch -> Int8,
        version -> Int8,
    }
}

diesel::table! {
    flow_task_parts (environment_id, task_id, part) {
        environment_id -> Uuid,
        task_id -> Uuid,
        part -> Int4,
        first_row -> Int8,
        rows -> Jsonb,
    }
}

diesel::table! {
    flow_tasks (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        flow_id -> Nullable<Uuid>,
        kind -> Text,
        is_test -> Bool,
        header -> Jsonb,
        version -> Nullable<Int4>,
        status -> Text,
        rows_total -> Int8,
        rows_accepted -> Int8,
        rows_ignored -> Int8,
        rows_rejected -> Int8,
        errors -> Jsonb,
        part -> Int4,
        parts -> Int4,
        place -> Nullable<Uuid>,
        attempts -> Int2,
        lease -> Nullable<Uuid>,
        leased_until -> Nullable<Timestamptz>,
        turn_at -> Timestamptz,
        created_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    flow_templates (environment_id, flow_id, version, template_id) {
        environment_id -> Uuid,
        flow_id -> Uuid,
        version -> Int4,
        template_id -> Uuid,
    }
}

diesel::table! {
    flow_versions (environment_id, flow_id, version) {
        environment_id -> Uuid,
        flow_id -> Uuid,
        version -> Int4,
        definition -> Jsonb,
        published_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    flows (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        name -> Text,
        description -> Text,
        metadata -> Jsonb,
        published_version -> Nullable<Int4>,
        draft_version -> Nullable<Int4>,
        archived_at -> Nullable<Timestamptz>,
        status -> Text,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        revision -> Int4,
    }
}

diesel::table! {
    group_members (organisation_id, group_id, member_id) {
        organisation_id -> Uuid,
        group_id -> Uuid,
        member_id -> Uuid,
    }
}

diesel::table! {
    group_roles (organisation_id, group_id, role_id) {
        organisation_id -> Uuid,
        group_id -> Uuid,
        role_id -> Uuid,
        environment_ids -> Nullable<Array<Uuid>>,
    }
}

diesel::table! {
    groups (organisation_id, id) {
        organisation_id -> Uuid,
        id -> Uuid,
        title -> Text,
        description -> Text,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        revision -> Int4,
    }
}

diesel::table! {
    instance_setup (only_one) {
        only_one -> Bool,
        token_hash -> Bytea,
        completed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    invocations (environment_id, flow_id, is_test, invocation, customer_id) {
        environment_id -> Uuid,
        flow_id -> Uuid,
        is_test -> Bool,
        invocation -> Text,
        customer_id -> Uuid,
        run_id -> Uuid,
    }
}

diesel::table! {
    member_invitations (organisation_id, id) {
        organisation_id -> Uuid,
        id -> Uuid,
        first_name -> Text,
        last_name -> Text,
        email -> Text,
        group_ids -> Array<Uuid>,
        token_hash -> Bytea,
        invited_by -> Uuid,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        accepted_at -> Nullable<Timestamptz>,
        revoked_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    member_sessions (token_hash) {
        token_hash -> Bytea,
        member_id -> Uuid,
        created_at -> Timestamptz,
        last_used_at -> Timestamptz,
    }
}

diesel::table! {
    members (organisation_id, id) {
        organisation_id -> Uuid,
        id -> Uuid,
        first_name -> Text,
        last_name -> Text,
        email -> Text,
        user_id -> Text,
        password_hash -> Text,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        revision -> Int4,
    }
}

diesel::table! {
    notifications (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        run_id -> Uuid,
        step_key -> Text,
        customer_id -> Uuid,
        title -> Text,
        body -> Text,
        detail -> Jsonb,
        container_ids -> Array<Uuid>,
        card_id -> Nullable<Uuid>,
        is_test -> Bool,
        status -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    organisations (id) {
        id -> Uuid,
        name -> Text,
        inactivity_minutes -> Int4,
        retention_days -> Jsonb,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        revision -> Int4,
    }
}

diesel::table! {
    outgoing_credentials (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        name -> Text,
        settings -> Jsonb,
        secrets -> Bytea,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        revision -> Int4,
    }
}

diesel::table! {
    roles (organisation_id, id) {
        organisation_id -> Uuid,
        id -> Uuid,
        built_in -> Nullable<Text>,
        title -> Text,
        description -> Text,
        levels -> Jsonb,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        revision -> Int4,
    }
}

diesel::table! {
    run_steps (environment_id, run_id, step_key) {
        environment_id -> Uuid,
        run_id -> Uuid,
        step_key -> Text,
        step_type -> Text,
        status -> Text,
        output -> Json,
        message -> Nullable<Text>,
        finished_at -> Timestamptz,
        path -> Nullable<Text>,
        input -> Nullable<Json>,
        started_at -> Timestamptz,
        place -> Int2,
    }
}

diesel::table! {
    runs (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        flow_id -> Uuid,
        flow_version -> Int4,
        lifecycle_id -> Uuid,
        batch_id -> Uuid,
        customer_id -> Uuid,
        user_id -> Text,
        invocation -> Text,
        is_test -> Bool,
        hops -> Int2,
        status -> Text,
        open_steps -> Int4,
        failed_steps -> Int4,
        variables -> Nullable<Json>,
        started_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    sdk_documents (environment_id, hash) {
        environment_id -> Uuid,
        hash -> Text,
        document -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    sdk_events (environment_id, event_id) {
        environment_id -> Uuid,
        event_id -> Uuid,
        received_at -> Timestamptz,
    }
}

diesel::table! {
    sdk_failures (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        at -> Timestamptz,
        status -> Int4,
        code -> Text,
        operation -> Nullable<Text>,
        key_name -> Text,
        claims -> Array<Text>,
    }
}

diesel::table! {
    sdk_keys (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        name -> Text,
        kind -> Text,
        public_key -> Nullable<Text>,
        jwks -> Nullable<Jsonb>,
        max_token_days -> Int4,
        allowed_issuers -> Array<Text>,
        allowed_audiences -> Array<Text>,
        user_id_claim -> Nullable<Text>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        revision -> Int4,
        claim_mappings -> Jsonb,
    }
}

diesel::table! {
    sign_in_attempts (email_hash) {
        email_hash -> Bytea,
        attempts -> Int4,
        began_at -> Timestamptz,
        locked_until -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    starts (environment_id, lifecycle_id) {
        environment_id -> Uuid,
        lifecycle_id -> Uuid,
        batch_id -> Uuid,
        invocation -> Text,
        payload -> Json,
        variables -> Json,
    }
}

diesel::table! {
    stream_templates (environment_id, stream_id, template_id) {
        environment_id -> Uuid,
        stream_id -> Uuid,
        template_id -> Uuid,
    }
}

diesel::table! {
    streams (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        name -> Text,
        built_in -> Bool,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        revision -> Int4,
    }
}

diesel::table! {
    test_data_deletions (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        before -> Timestamptz,
        status -> Text,
        cards -> Int8,
        events -> Int8,
        passed_at -> Timestamptz,
        passed_id -> Uuid,
        created_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    themes (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        name -> Text,
        document -> Jsonb,
        built_in -> Bool,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        revision -> Int4,
    }
}

diesel::table! {
    tokens (environment_id, run_id, step_key) {
        environment_id -> Uuid,
        run_id -> Uuid,
        step_key -> Text,
        status -> Text,
        lane -> Int2,
        wake_at -> Timestamptz,
        attempts -> Int2,
        wait_card -> Nullable<Uuid>,
        wait_until -> Nullable<Timestamptz>,
        reached_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    trigger_events (environment_id, trigger_id, outcome, id) {
        environment_id -> Uuid,
        trigger_id -> Uuid,
        id -> Uuid,
        event_id -> Uuid,
        at -> Timestamptz,
        outcome -> Text,
        detail -> Nullable<Text>,
        invocation -> Nullable<Text>,
    }
}

diesel::table! {
    trigger_firings (environment_id, trigger_id, event_id) {
        environment_id -> Uuid,
        trigger_id -> Uuid,
        event_id -> Uuid,
        received_at -> Timestamptz,
        due_at -> Timestamptz,
        attempts -> Int2,
        claim -> Nullable<Uuid>,
    }
}

diesel::table! {
    trigger_requests (environment_id, trigger_id, id) {
        environment_id -> Uuid,
        trigger_id -> Uuid,
        id -> Uuid,
        at -> Timestamptz,
        status -> Int2,
        code -> Nullable<Text>,
        detail -> Nullable<Text>,
        bytes -> Int4,
        address -> Text,
        invocation -> Nullable<Text>,
        kept -> Nullable<Bytea>,
        replayed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    triggers (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        flow_id -> Uuid,
        kind -> Text,
        mode -> Text,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        name -> Text,
        mapping -> Jsonb,
        shape_check -> Text,
        allowed_addresses -> Array<Text>,
        verification -> Nullable<Jsonb>,
        secret -> Nullable<Bytea>,
        sample -> Nullable<Jsonb>,
        sample_headers -> Jsonb,
        sample_at -> Nullable<Timestamptz>,
        capture_until -> Nullable<Timestamptz>,
        paused_at -> Nullable<Timestamptz>,
        paused_reason -> Nullable<Text>,
        paused_shape -> Nullable<Jsonb>,
        revision -> Int4,
        captured_at -> Nullable<Timestamptz>,
        event_name -> Nullable<Text>,
        condition -> Nullable<Jsonb>,
        event_template_id -> Nullable<Uuid>,
        event_flow_id -> Nullable<Uuid>,
        since_xid -> Int8,
    }
}

diesel::table! {
    webhook_deliveries (environment_id, webhook_id, seq, received_at) {
        environment_id -> Uuid,
        webhook_id -> Uuid,
        seq -> Int8,
        event_id -> Uuid,
        received_at -> Timestamptz,
    }
}

diesel::table! {
    webhook_replays (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        webhook_id -> Uuid,
        from_at -> Timestamptz,
        to_at -> Timestamptz,
        types -> Nullable<Array<Text>>,
        status -> Text,
        passed_at -> Timestamptz,
        passed_id -> Uuid,
        found -> Int8,
        queued -> Int8,
        due_at -> Timestamptz,
        created_at -> Timestamptz,
        finished_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    webhook_requests (environment_id, webhook_id, at, id) {
        environment_id -> Uuid,
        webhook_id -> Uuid,
        id -> Uuid,
        at -> Timestamptz,
        request_id -> Uuid,
        event_id -> Nullable<Uuid>,
        events -> Int4,
        attempt -> Int4,
        duration_ms -> Int4,
        url -> Text,
        method -> Text,
        status -> Nullable<Int2>,
        error -> Nullable<Text>,
        is_test -> Bool,
        request_headers -> Jsonb,
        request_bytes -> Int4,
        request_body -> Nullable<Text>,
        response_headers -> Jsonb,
        response_bytes -> Int4,
        response_body -> Nullable<Text>,
        xid -> Int8,
    }
}

diesel::table! {
    webhook_retries (environment_id, webhook_id, seq) {
        environment_id -> Uuid,
        webhook_id -> Uuid,
        seq -> Int8,
        seqs -> Array<Int8>,
        attempts -> Int4,
        due_at -> Timestamptz,
    }
}

diesel::table! {
    webhook_streams (environment_id, webhook_id) {
        environment_id -> Uuid,
        webhook_id -> Uuid,
        head -> Int8,
        cursor -> Int8,
        open -> Array<Int8>,
        ready_at -> Nullable<Timestamptz>,
        retry_at -> Nullable<Timestamptz>,
        paused_until -> Nullable<Timestamptz>,
        failures -> Int4,
        revision -> Int4,
        lease -> Nullable<Uuid>,
        holder -> Nullable<Text>,
        leased_until -> Nullable<Timestamptz>,
        delivered -> Int8,
        given_up -> Int8,
        dropped -> Int8,
        replayed -> Int8,
    }
}

diesel::table! {
    webhook_subscriptions (environment_id, id) {
        environment_id -> Uuid,
        id -> Uuid,
        name -> Nullable<Text>,
        types -> Array<Text>,
        url -> Text,
        test_url -> Nullable<Text>,
        method -> Text,
        headers -> Jsonb,
        template_id -> Nullable<Uuid>,
        flow_id -> Nullable<Uuid>,
        secret -> Bytea,
        previous_secret -> Nullable<Bytea>,
        previous_secret_until -> Nullable<Timestamptz>,
        include_test_events -> Bool,
        include_request_payload -> Bool,
        include_card_response -> Bool,
        batched -> Bool,
        max_retries -> Int4,
        disable_after_failures -> Bool,
        status -> Text,
        disabled_reason -> Nullable<Text>,
        disabled_at -> Nullable<Timestamptz>,
        since_xid -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        revision -> Int4,
        credential_id -> Nullable<Uuid>,
        mapping -> Nullable<Text>,
    }
}

diesel::joinable!(api_credentials -> environments (environment_id));
diesel::joinable!(audit_entries -> organisations (organisation_id));
diesel::joinable!(card_templates -> environments (environment_id));
diesel::joinable!(containers -> environments (environment_id));
diesel::joinable!(environments -> organisations (organisation_id));
diesel::joinable!(exports -> environments (environment_id));
diesel::joinable!(flow_tasks -> environments (environment_id));
diesel::joinable!(flows -> environments (environment_id));
diesel::joinable!(groups -> organisations (organisation_id));
diesel::joinable!(member_invitations -> organisations (organisation_id));
diesel::joinable!(members -> organisations (organisation_id));
diesel::joinable!(outgoing_credentials -> environments (environment_id));
diesel::joinable!(roles -> organisations (organisation_id));
diesel::joinable!(sdk_documents -> environments (environment_id));
diesel::joinable!(sdk_failures -> environments (environment_id));
diesel::joinable!(sdk_keys -> environments (environment_id));
diesel::joinable!(streams -> environments (environment_id));
diesel::joinable!(test_data_deletions -> environments (environment_id));
diesel::joinable!(themes -> environments (environment_id));
diesel::joinable!(webhook_subscriptions -> environments (environment_id));

diesel::allow_tables_to_appear_in_same_query!(
    api_credentials,
    audit_entries,
    batches,
    card_template_versions,
    card_templates,
    cards,
    consumers,
    container_keys,
    containers,
    customers,
    effect_attempts,
    effects,
    environments,
    events,
    export_chunks,
    export_hours,
    exports,
    feed_changes,
    feed_heads,
    flow_task_parts,
    flow_tasks,
    flow_templates,
    flow_versions,
    flows,
    group_members,
    group_roles,
    groups,
    instance_setup,
    invocations,
    member_invitations,
    member_sessions,
    members,
    notifications,
    organisations,
    outgoing_credentials,
    roles,
    run_steps,
    runs,
    sdk_documents,
    sdk_events,
    sdk_failures,
    sdk_keys,
    sign_in_attempts,
    starts,
    stream_templates,
    streams,
    test_data_deletions,
    themes,
    tokens,
    trigger_events,
    trigger_firings,
    trigger_requests,
    triggers,
    webhook_deliveries,
    webhook_replays,
    webhook_requests,
    webhook_retries,
    webhook_streams,
    webhook_subscriptions,
);

//! Every family of metrics that there is: the one source of names and of the reference.

/// What every name begins with.
pub const PREFIX: &str = "orginvite";

/// One family of metrics.
#[derive(Debug)]
pub struct Description {
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: &'static str,
    /// The name, without the prefix and the suffix of its kind.
    pub name: &'static str,
    /// Names of the labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

impl Description {
    /// The full name, as the `TYPE` line of a scrape has it.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{PREFIX}_{}", self.name)
    }

    /// The name that a query uses; of a histogram, what `_bucket`, `_sum` and `_count` are added to.
    #[must_use]
    pub fn series(&self) -> String {
        let suffix = match self.kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        self.full_name() + suffix
    }
}

/// The reference of all families, as a table in Markdown.
#[must_use]
pub fn reference() -> String {
    let row = |family: &Description| {
        let labels: Vec<String> = family
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let (name, kind, help) = (family.series(), family.kind, family.help);
        format!("| `{name}` | {kind} | {} | {help}. |\n", labels.join(", "))
    };
    let head = "| metric | type | labels | what it tells |\n|---|---|---|---|\n";
    ALL.iter()
        .map(row)
        .fold(head.to_owned(), |table, row| table + &row)
}

macro_rules! families {
    ($($constant:ident: $kind:ident $name:ident ($($label:ident),*), $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: Description = Description {
                kind: stringify!($kind),
                name: stringify!($name),
                labels: &[$(stringify!($label)),*],
                help: $help,
            };
        )+

        /// All of them, in the order of the reference.
        pub const ALL: &[Description] = &[$($constant,)+];
    };
}

families! {
    BUILD: info build(version),
        "The version that runs";
    LEADER: gauge leader(),
        "1 in the process that leads, 0 in one that stands by";
    RECONCILES: counter reconciles(resource, result),
        "Reconciles that ended. success: nothing to do until something changes; requeue: it comes back at a time that it knows, such as its place in the budget; error: Kubernetes did not take a write, and it is tried again";
    RECONCILE_DURATION: histogram reconcile_duration_seconds(resource),
        "How long reconciles took";
    RECONCILES_RUNNING: gauge reconciles_running(resource),
        "Reconciles under way";
    QUEUE_DEPTH: gauge queue_depth(resource),
        "Objects that something triggered and whose reconcile has not ended since, the running ones among them. One that comes back at a time that it knows is counted once it runs";
    QUEUE_OLDEST_AGE: gauge queue_oldest_age_seconds(resource),
        "How long ago that object of queue_depth was triggered that waits longest; 0 when there is none";
    ASTRO_CALLS: counter astro_calls(operation, status),
        "Calls to Astro that ended, by HTTP status; none when no answer came";
    ASTRO_CALL_DURATION: histogram astro_call_duration_seconds(operation),
        "How long calls to Astro took, from sending the request to having read the answer";
    BUDGET_WAIT: histogram budget_wait_seconds(organization, verb),
        "How long calls waited for their permit, from asking for it to getting it";
    BUDGET_WAITING: gauge budget_waiting(organization, verb),
        "How many wait for a permit now; one of them may be the reading of the organization. Told by the leader only";
    EMAILS_SENT: counter emails_sent(organization, cause),
        "Invitations that Astro said it sent, or that were found after its answer was lost. first; replacement: the role was edited; resend: the one before expired or went, or a person asked";
    INVITES: gauge invites(organization, state, status),
        "OrgInvites by the reason of their Ready condition (New before there is one) and by their kstatus: Current, InProgress, Failed (a person has to do something) or Terminating. The organization is (missing) when there is none of the name. Told by the leader only";
    ORGANIZATION_READY: gauge organization_ready(organization, state),
        "1 while the Organization's Ready condition is True, else 0; state is the condition's reason (New before there is one). Told by the leader only";
    ORGANIZATION_SUSPENDED: gauge organization_suspended(organization),
        "1 while the Organization's spec.suspend is true, so that nothing in Astro is changed, else 0. Told by the leader only";
    TOKEN_ACCEPTED: gauge token_accepted(organization),
        "1 when Astro accepted the token at the last reading, 0 when it rejected the token or there is none to try, absent while nobody knows. Told by the leader only";
    MASS_LOSS: gauge mass_loss(organization),
        "1 while so many people are missing at once that it is not believed: no e-mail goes out and nobody is removed until a reading shows them again or a person acknowledges it. Told by the leader only";
    LONG_UNREAD: gauge long_unread(organization),
        "1 while the organization was not read for so long that the cluster may have been restored from a backup: no e-mail goes out for what was declared before, until a person acknowledges it. Told by the leader only";
    DIRECTORY_AGE: gauge directory_age_seconds(organization),
        "How long ago the last complete reading of the organization's people began; absent before the first. Told by the leader only";
    DIRECTORY_PEOPLE: gauge directory_people(organization),
        "People, members and invited ones, that the last complete reading showed. Told by the leader only";
    DIRECTORY_PASSES: counter directory_passes(organization, result),
        "Readings of the organization's people that ended complete or failed";
    DIRECTORY_PASS_DURATION: histogram directory_pass_duration_seconds(organization),
        "How long complete readings of the organization's people took";
}

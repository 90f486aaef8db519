//! Why a condition is as it is: every reason there is, with what it means and what to do.

/// Which resource a condition is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// `OrgInvite`.
    OrgInvite,
    /// `Organization`.
    Organization,
}

macro_rules! reasons {
    ($([$($about:ident $condition:ident),+] { $($(#[doc = $text:literal])+ $name:ident,)+ })+) => {
        /// Reason of a condition, as scripts may rely on it. Its documentation is what the reference
        /// says of it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($($(#[doc = $text])+ $name,)+)+
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$($(Self::$name,)+)+];

            /// The reason as a condition has it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $($(Self::$name => stringify!($name),)+)+ }
            }

            /// What it means and what to do.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $($(Self::$name => concat!($($text),+).trim_ascii(),)+)+ }
            }

            /// The condition that tells it, for each resource that has it. `Ready` has it as well
            /// where that condition is `Reconciling` or `Stalled`, unless it keeps its last truth.
            #[must_use]
            pub const fn told_by(self) -> &'static [(About, &'static str)] {
                match self {
                    $($(Self::$name)|+ => &[$((About::$about, stringify!($condition))),+],)+
                }
            }
        }
    };
}

reasons! {
    [OrgInvite Ready] {
        /// The invitation is out and waits for the person. Nothing to do.
        Invited,
        /// The person accepted and is a member. The object only watches from now on, and deleting it
        /// does not remove the person.
        Accepted,
        /// The person was a member before anything was sent; no e-mail went out. Deleting the object
        /// does not remove the person.
        AlreadyMember,
        /// The person is a member with another role than the spec says, which is told and not
        /// changed. Change the role in Astro or in the spec.
        RoleDiffers,
    }
    [OrgInvite Accepted] {
        /// The status is False: the invitation waits for the person, or ended without.
        Pending,
        /// The status is True: the person is a member of the organization.
        Member,
        /// The status is False: the person accepted and is no longer a member.
        Left,
        /// The status is Unknown: the token may not list users, so that nobody can tell.
        NotVisible,
    }
    [OrgInvite Reconciling] {
        /// It is not known whether an invitation is on its way. Nothing is sent until it had time to
        /// arrive and the organization was read again; it resolves by itself.
        Settling,
        /// The next e-mail to the address waits, so that nobody gets several at once. It goes out by
        /// itself at the time in the message.
        Spacing,
        /// The invitation was taken back for a new one in its place, which goes out by itself once the organization was
        /// read again.
        Replacing,
        /// A new invitation is asked for, but Astro's list does not show the pending one. It is
        /// replaced once the list does.
        NotListed,
        /// Being deleted: another OrgInvite for the address takes over what is recorded, without an
        /// e-mail.
        HandingOver,
        /// Astro did not take the invitation back: of an object that is being deleted, or for a new one
        /// in its place. It is tried again with growing delays; with deletionPolicy Retain a deleted
        /// object goes without.
        RevokeFailed,
        /// Astro answered 429. It is tried again when its Retry-After allows.
        RateLimited,
        /// Many wait for what Astro's limits let pass, and its turn has not come yet.
        Queued,
        /// The Organization is suspended; status.plannedAction has what would be done.
        Suspended,
        /// The Organization is missing. Create it, or this object with another organizationRef.
        OrganizationNotFound,
        /// The Organization cannot be worked with; the message and its own conditions say why.
        OrganizationNotReady,
    }
    [OrgInvite Stalled] {
        /// The Organization is being deleted: nothing new is sent for it. Delete the object as well,
        /// or create the Organization again once it is gone.
        OrganizationDeleting,
        /// The Organization's rules do not allow this namespace to touch that address with that role:
        /// the one that the spec asks for, or the one that the person has now. Ask who looks after
        /// the Organization to allow it, or change the role.
        NotPermitted,
        /// Another OrgInvite is for the same address, which gets one invitation. Delete one of the
        /// two. The other one is named only when it is in the same namespace.
        Conflict,
        /// The invitation expired and resendWhen is Never, or nobody can tell whether the person
        /// accepted. Ask for another one with the annotation iam.astronomer.io/resend-requested-at.
        Expired,
        /// The invitation expired after maxResends were sent by themselves. Ask for one more with the
        /// annotation iam.astronomer.io/resend-requested-at, or raise maxResends.
        ResendLimitReached,
        /// The invitation is gone before its expiry: declined, or revoked in Astro. Ask for another
        /// one with the annotation iam.astronomer.io/resend-requested-at, set resendWhen to Gone (or
        /// raise maxResends where it is), or delete the object.
        InvitationWithdrawn,
        /// The invitation is gone before its expiry, and the token may not list users: it was
        /// accepted, declined or revoked, and nobody can tell. Nothing is sent again by itself; ask
        /// with the annotation iam.astronomer.io/resend-requested-at.
        InvitationEnded,
        /// The person was a member and is no longer. Nobody is invited again by itself. Ask with the
        /// annotation iam.astronomer.io/resend-requested-at, or delete the object.
        MemberRemoved,
        /// The object was restored from a backup or copied from another place, and Astro shows no
        /// invitation: the person may have had one and declined. Ask for one with the annotation
        /// iam.astronomer.io/resend-requested-at.
        Restored,
        /// Astro lists the person as inactive or banned. No e-mail until somebody changes that there.
        PersonInactive,
        /// Astro lists the person as invited but does not show the invitation. Nothing is sent, since
        /// it may be pending. Revoke it in Astro, and a new one is sent.
        InviteUnidentified,
        /// An e-mail's outcome is not known, or whether the operator's own call ended the invitation
        /// that was to be replaced, and the token may not list users, so that nobody can look. Look in
        /// Astro, then set the annotation iam.astronomer.io/resend-requested-at (send again) or
        /// iam.astronomer.io/invite-id (that one is it).
        OutcomeUnknown,
        /// Astro refused the invitation, in the words of the message. Not tried again until the spec,
        /// the Organization or its token changes, or somebody asks with the annotation
        /// iam.astronomer.io/resend-requested-at.
        Refused,
        /// The Organization's token may not invite people, or not take invitations back. Give it a role that may, or
        /// put another token into the Secret. It is tried again within the hour.
        TokenNotAllowed,
        /// The domain of the e-mail address is not a valid one. Delete the object and create another
        /// one.
        InvalidEmail,
        /// The spec has a value that only a later version of the operator knows, as after a rollback. Nothing is sent or
        /// taken back for the object meanwhile. Update the operator, or change the value.
        NotSupported,
        /// The operator's own annotation iam.astronomer.io/attempt was changed by somebody, so that
        /// nothing can be sent. The message says what to do.
        AttemptUnreadable,
    }
    [Organization Ready] {
        /// The token is accepted and the organization's people are read regularly.
        Connected,
        /// The token may not list users, so that the operator works without looking: acceptance is
        /// not seen, and what nobody can tell waits for a person. Give the token a role that may.
        ListForbidden,
    }
    [Organization Reconciling] {
        /// Being deleted: it goes when the OrgInvites that hold an invitation or a member of it are gone.
        InUse,
    }
    [Organization Stalled] {
        /// Astro knows no such organization, or its API does not answer there. Check organizationId
        /// and the operator's --astro-url.
        OrganizationUnknown,
        /// The Secret with the token, or its key, is missing, empty or no token, or the operator cannot read it.
        /// Create it, or let the operator read it; it is picked up by itself.
        TokenMissing,
        /// An older Organization is for the same organizationId. Delete one of the two.
        Duplicate,
    }
    [OrgInvite Reconciling, Organization Suspicious] {
        /// The organization was not read for so long that the cluster may have been restored from a
        /// backup: nobody who was declared before is written to until somebody acknowledges it with
        /// the annotation iam.astronomer.io/acknowledge-loss on the Organization.
        LongUnread,
    }
    [OrgInvite Reconciling, Organization Stalled] {
        /// One reading lost so many people at once that it is not believed: no e-mail and no
        /// removal until a later one shows them again, or somebody acknowledges the loss with the
        /// annotation iam.astronomer.io/acknowledge-loss on the Organization.
        PeopleMissing,
    }
    [OrgInvite Reconciling, Organization Stalled] {
        /// Astro did not accept the token. Put a valid one into the Secret; it is picked up by itself.
        TokenRejected,
    }
    [OrgInvite Reconciling, Organization Reconciling] {
        /// Astro cannot be reached, or its answer says nothing. Nothing is changed meanwhile, and it
        /// is tried again with growing delays.
        AstroUnavailable,
        /// The API server refuses what the operator has to write to the object, such as an attempt before
        /// its e-mail or a finalizer: annotations that are too long, or an admission policy. The message
        /// has its words; it is tried again with delays.
        WriteRefused,
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

//! Why a condition is as it is: every reason there is, with what it means and what to do.

/// Which resource a reason is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// `OrgInvite`.
    OrgInvite,
    /// `Organization`.
    Organization,
    /// Both of them.
    Both,
}

macro_rules! reasons {
    ($($about:ident { $($(#[doc = $text:literal])+ $name:ident,)+ })+) => {
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

            /// Which resource has it.
            #[must_use]
            pub const fn about(self) -> About {
                match self { $($(Self::$name)|+ => About::$about,)+ }
            }
        }
    };
}

reasons! {
    OrgInvite {
        /// The invitation is out and was not accepted yet. Nothing to do.
        Invited,
        /// The person accepted and is a member. The object only watches from now on.
        Accepted,
        /// The person was a member before anything was sent; no e-mail went out.
        AlreadyMember,
        /// The person is a member with another role than the spec says. Change the role in Astro or
        /// in the spec.
        RoleDiffers,
        /// In the condition Accepted: the invitation waits for the person.
        Pending,
        /// In the condition Accepted: the person is a member of the organization.
        Member,
        /// In the condition Accepted: the token may not list users, so nobody can tell.
        NotVisible,
        /// An e-mail's outcome is not known. Nothing is sent until it had time to arrive and the
        /// organization was read again; it resolves by itself.
        Settling,
        /// The next e-mail waits, so that nobody gets several at once. It goes out by itself.
        Spacing,
        /// A new invitation is asked for, but Astro's list does not show the old one. It is replaced
        /// once the list does.
        NotListed,
        /// Being deleted: another OrgInvite for the address takes the invitation over.
        HandingOver,
        /// Being deleted: Astro did not take the invitation back. It is tried again; with
        /// deletionPolicy Retain the object goes without.
        RevokeFailed,
        /// Astro answered 429. It is tried again when its Retry-After allows.
        RateLimited,
        /// The Organization is suspended; status.plannedAction has what would be done.
        Suspended,
        /// The Organization is missing. Create it, or this object with another organizationRef.
        OrganizationNotFound,
        /// The Organization cannot be worked with; its own conditions say why.
        OrganizationNotReady,
        /// The Organization is being deleted: nothing new is sent for it.
        OrganizationDeleting,
        /// The Organization's rules do not allow this namespace to give that role to that address.
        /// Ask who looks after the Organization, or change the role.
        NotPermitted,
        /// Another OrgInvite is for the same address. Delete one of the two.
        Conflict,
        /// The invitation expired and resendWhen does not allow another one by itself, or nobody can
        /// tell whether the person accepted. Ask for one with the annotation
        /// iam.astronomer.io/resend-requested-at.
        Expired,
        /// The invitation expired after maxResends were sent. Ask for one more with the annotation
        /// iam.astronomer.io/resend-requested-at, or raise maxResends.
        ResendLimitReached,
        /// The invitation is gone before its expiry: declined, or revoked in Astro. Ask for another
        /// one with the annotation iam.astronomer.io/resend-requested-at, or delete the object.
        InvitationWithdrawn,
        /// The invitation is gone before its expiry, and the token may not list users: it was
        /// accepted, declined or revoked, and nobody can tell. Nothing is sent again by itself.
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
        /// Astro lists the person as invited but does not show the invitation. Revoke it in Astro,
        /// and a new one is sent.
        InviteUnidentified,
        /// An e-mail's outcome is not known and the token may not list users, so that nobody can
        /// look. Look in Astro, then set iam.astronomer.io/resend-requested-at (send again) or
        /// iam.astronomer.io/invite-id (that one is it).
        OutcomeUnknown,
        /// Astro refused the invitation. Not tried again until the spec, the Organization or its
        /// token changes.
        Refused,
        /// The Organization's token may not do that. Give it a role that may, or another token.
        TokenNotAllowed,
        /// The e-mail address is none. Delete the object and create another one.
        InvalidEmail,
        /// The operator's own annotation was changed by somebody. The message says what to do.
        AttemptUnreadable,
    }
    Organization {
        /// The token is accepted and the organization's people are read regularly.
        Connected,
        /// The token may not list users, so the operator works without looking: acceptance is not
        /// seen, and what nobody can tell waits for a person. Give the token that right.
        ListForbidden,
        /// Astro knows no such organization, or does not answer there. Check organizationId and the
        /// operator's --astro-url.
        OrganizationUnknown,
        /// The Secret with the token, or its key, is missing or empty. Create it.
        TokenMissing,
        /// An older Organization is for the same organizationId. Delete one of the two.
        Duplicate,
        /// Being deleted: it goes when the OrgInvites that hold an invitation of it are gone.
        InUse,
    }
    Both {
        /// The organization was not read for so long that the cluster may have been restored from a
        /// backup: nobody who was declared before is written to until somebody acknowledges it with
        /// the annotation iam.astronomer.io/acknowledge-loss on the Organization.
        LongUnread,
        /// One reading lost so many people at once that it is not believed: no e-mail and no
        /// removal until a later one shows them again, or somebody acknowledges the loss with the
        /// annotation iam.astronomer.io/acknowledge-loss on the Organization.
        PeopleMissing,
        /// Astro did not accept the token. Put a valid one into the Secret; it is picked up by itself.
        TokenRejected,
        /// Astro cannot be reached, or its answer says nothing. Nothing is changed meanwhile, and it
        /// is tried again.
        AstroUnavailable,
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

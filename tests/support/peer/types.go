package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var groupVersion = schema.GroupVersion{Group: "iam.astronomer.io", Version: "v1alpha1"}

// OrgInvite is one, as far as this operator reads and writes it.
type OrgInvite struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              OrgInviteSpec   `json:"spec"`
	Status            OrgInviteStatus `json:"status,omitempty"`
}

// OrgInviteSpec is its spec.
type OrgInviteSpec struct {
	Email           string `json:"email"`
	Role            string `json:"role"`
	OrganizationRef Name   `json:"organizationRef"`
	DeletionPolicy  string `json:"deletionPolicy,omitempty"`
	ResendWhen      string `json:"resendWhen,omitempty"`
	MaxResends      int32  `json:"maxResends"`
}

// OrgInviteStatus is its status.
type OrgInviteStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	InviteID           string             `json:"inviteId,omitempty"`
	OrganizationID     string             `json:"organizationId,omitempty"`
	Email              string             `json:"email,omitempty"`
	Role               string             `json:"role,omitempty"`
	InvitedAt          *metav1.Time       `json:"invitedAt,omitempty"`
	ExpiresAt          *metav1.Time       `json:"expiresAt,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

// OrgInviteList is a list of them.
type OrgInviteList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []OrgInvite `json:"items"`
}

// Name names an object.
type Name struct {
	Name string `json:"name"`
}

// DeepCopyObject copies it.
func (in *OrgInvite) DeepCopyObject() runtime.Object {
	return in.copy()
}

func (in *OrgInvite) copy() *OrgInvite {
	out := *in
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Status.InvitedAt = in.Status.InvitedAt.DeepCopy()
	out.Status.ExpiresAt = in.Status.ExpiresAt.DeepCopy()
	out.Status.Conditions = append([]metav1.Condition(nil), in.Status.Conditions...)
	return &out
}

// DeepCopyObject copies it.
func (in *OrgInviteList) DeepCopyObject() runtime.Object {
	out := *in
	out.Items = make([]OrgInvite, len(in.Items))
	for i := range in.Items {
		out.Items[i] = *in.Items[i].copy()
	}
	return &out
}

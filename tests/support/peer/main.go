// An operator for OrgInvites as controller-runtime's book teaches to write one: a finalizer, a POST when the status
// has no ID, the status, a DELETE. It is what `make bench-peer` measures beside ours, and nothing to run: after a
// crash or a lost answer it invites people twice.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

const finalizer = "iam.astronomer.io/peer"

type reconciler struct {
	client.Client
	organization, invites, token string
	http                         *http.Client
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	invite := &OrgInvite{}
	if err := r.Get(ctx, request.NamespacedName, invite); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if invite.Spec.OrganizationRef.Name != r.organization {
		return ctrl.Result{}, nil
	}
	if !invite.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.finalize(ctx, invite)
	}
	if controllerutil.AddFinalizer(invite, finalizer) {
		if err := r.Update(ctx, invite); err != nil {
			return ctrl.Result{}, err
		}
	}
	if invite.Status.InviteID != "" {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, r.invite(ctx, invite)
}

func (r *reconciler) invite(ctx context.Context, invite *OrgInvite) error {
	body, err := json.Marshal(map[string]string{"inviteeEmail": invite.Spec.Email, "role": invite.Spec.Role})
	if err != nil {
		return err
	}
	var sent struct {
		InviteID       string      `json:"inviteId"`
		OrganizationID string      `json:"organizationId"`
		ExpiresAt      metav1.Time `json:"expiresAt"`
	}
	if _, err := r.call(ctx, http.MethodPost, r.invites, body, &sent); err != nil {
		return err
	}
	ctrl.LoggerFrom(ctx).Info("invited", "invite", sent.InviteID)
	now := metav1.Now()
	invite.Status.ObservedGeneration = invite.Generation
	invite.Status.InviteID = sent.InviteID
	invite.Status.OrganizationID = sent.OrganizationID
	invite.Status.Email = invite.Spec.Email
	invite.Status.Role = invite.Spec.Role
	invite.Status.InvitedAt = &now
	invite.Status.ExpiresAt = &sent.ExpiresAt
	meta.SetStatusCondition(&invite.Status.Conditions, metav1.Condition{
		Type: "Ready", Status: metav1.ConditionTrue, Reason: "Invited",
		Message:            "The invitation is out and expires at " + sent.ExpiresAt.Format(time.RFC3339),
		ObservedGeneration: invite.Generation,
	})
	return r.Status().Update(ctx, invite)
}

func (r *reconciler) finalize(ctx context.Context, invite *OrgInvite) error {
	if !controllerutil.RemoveFinalizer(invite, finalizer) {
		return nil
	}
	if id := invite.Status.InviteID; id != "" {
		status, err := r.call(ctx, http.MethodDelete, r.invites+"/"+id, nil, nil)
		if err != nil && status != http.StatusNotFound {
			return err
		}
		ctrl.LoggerFrom(ctx).Info("revoked", "invite", id)
	}
	return r.Update(ctx, invite)
}

func (r *reconciler) call(ctx context.Context, method, url string, body []byte, into any) (int, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+r.token)
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := r.http.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	if response.StatusCode >= 300 {
		return response.StatusCode, fmt.Errorf("Astro answered %s", response.Status)
	}
	if into != nil {
		err = json.Unmarshal(answer, into)
	}
	return response.StatusCode, err
}

// connect finds the token of the Organization, once.
func (r *reconciler) connect(ctx context.Context, reader client.Reader, astro, namespace string) (*unstructured.Unstructured, error) {
	organization := &unstructured.Unstructured{}
	organization.SetGroupVersionKind(groupVersion.WithKind("Organization"))
	if err := reader.Get(ctx, client.ObjectKey{Name: r.organization}, organization); err != nil {
		return nil, err
	}
	id, _, _ := unstructured.NestedString(organization.Object, "spec", "organizationId")
	name, _, _ := unstructured.NestedString(organization.Object, "spec", "tokenSecretRef", "name")
	secret := &corev1.Secret{}
	if err := reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, secret); err != nil {
		return nil, err
	}
	r.token, r.invites = string(secret.Data["token"]), astro+"/organizations/"+id+"/invites"
	return organization, nil
}

// connected says in the Organization's status what the benchmark waits for.
func (r *reconciler) connected(ctx context.Context, organization *unstructured.Unstructured) error {
	patch := client.MergeFrom(organization.DeepCopy())
	organization.Object["status"] = map[string]any{"conditions": []any{map[string]any{
		"type": "Ready", "status": "True", "reason": "Connected", "message": "Connected",
		"lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
	}}}
	return r.Status().Patch(ctx, organization, patch)
}

func run() error {
	if len(os.Args) < 2 || os.Args[1] != "run" {
		fmt.Println("an operator of controller-runtime")
		return nil
	}
	// The flags of ours that the benchmark gives.
	astro := flag.String("astro-url", "", "")
	namespace := flag.String("namespace", "", "also the Organization's name")
	for _, unheeded := range []string{
		"organizations", "posts-per-second", "deletes-per-second", "gets-per-second",
		"lease-duration", "request-deadline", "listing-delay", "settle",
	} {
		flag.String(unheeded, "", "not heeded")
	}
	if err := flag.CommandLine.Parse(os.Args[2:]); err != nil {
		return err
	}
	ctrl.SetLogger(zap.New())
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	scheme.AddKnownTypes(groupVersion, &OrgInvite{}, &OrgInviteList{})
	metav1.AddToGroupVersion(scheme, groupVersion)
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	// No limit of the client's own.
	config.QPS = -1
	mgr, err := ctrl.NewManager(config, ctrl.Options{Scheme: scheme, Metrics: server.Options{BindAddress: "0"}})
	if err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16
	reconciler := &reconciler{Client: mgr.GetClient(), organization: *namespace, http: &http.Client{Transport: transport, Timeout: 15 * time.Second}}
	err = ctrl.NewControllerManagedBy(mgr).
		For(&OrgInvite{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: 16}).
		Complete(reconciler)
	if err != nil {
		return err
	}
	ctx := ctrl.SetupSignalHandler()
	organization, err := reconciler.connect(ctx, mgr.GetAPIReader(), *astro, *namespace)
	if err != nil {
		return err
	}
	err = mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		if _, err := mgr.GetCache().GetInformer(ctx, &OrgInvite{}); err != nil {
			return err
		}
		return reconciler.connected(ctx, organization)
	}))
	if err != nil {
		return err
	}
	return mgr.Start(ctx)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

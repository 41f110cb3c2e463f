package admin

import (
	"context"
	"net/http"

	"github.com/keybrake/keybrake/internal/policy"
	"github.com/keybrake/keybrake/internal/vault"
)

// Scope is one resource of the permission map: what opening it means.
type Scope struct {
	Resource string `json:"resource"`
	Title    string `json:"title"`
	Group    string `json:"group"`
	Risk     string `json:"risk" doc:"low, medium, high, extreme"`
	Worst    string `json:"worst" doc:"the state of things by morning, if an agent with all access to it repeats itself all night"`
	Shows    string `json:"shows" doc:"what reading shows; empty where nothing can be read"`
	Reads    int    `json:"reads" doc:"operations that Read grants"`
	Writes   int    `json:"writes" doc:"further operations that Write grants"`
	// Moves are the buckets in which its writes move or commit money by an amount that is counted: a write scope
	// needs a cap for each.
	Moves []string `json:"moves"`
	// Money is all that its writes can do to money, counted or not.
	Money []Movement `json:"money"`
	// ReachesCustomers: a policy that grants it must say whose customers. Customers says whether a list can
	// follow: none, followed, partly, any.
	ReachesCustomers bool     `json:"reaches_customers"`
	Customers        string   `json:"customers"`
	SuggestedCaps    []string `json:"suggested_caps" doc:"as --cap takes them"`
	Presets          []string `json:"presets"`
	// RestrictedRead and RestrictedWrite are the vendor's names for the permission on a restricted key.
	RestrictedRead  []string `json:"restricted_read"`
	RestrictedWrite []string `json:"restricted_write"`
}

// Movement is one way in which money moves.
type Movement struct {
	Direction string `json:"direction" doc:"in, out, in later, out later, owed"`
	Bucket    string `json:"bucket"`
	Counted   bool   `json:"counted" doc:"else calls that make it are denied unless the policy names them"`
}

// PresetView is a preset as a form offers it.
type PresetView struct {
	Name        string `json:"name"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Policy      string `json:"policy" doc:"YAML"`
	// View is the policy in parts; absent if this server's catalog does not know all that it names.
	View *PolicyView `json:"view,omitempty"`
}

func (a *api) permissions() {
	handleList(a, route{http.MethodGet, "permissions", "list-permissions", "The permission map: every resource with what opening it means", vault.ToSee, 0},
		func(s Scope) string { return s.Resource },
		func(_ context.Context, _ Actor, _ *Paging) ([]Scope, error) { return a.s.Scopes, nil })
	handleList(a, route{http.MethodGet, "presets", "list-presets", "Policies to begin with", vault.ToSee, 0},
		func(p PresetView) string { return p.Name },
		func(_ context.Context, _ Actor, _ *Paging) (out []PresetView, err error) {
			for _, p := range policy.Presets() {
				view := PresetView{Name: p.Name, Title: p.Title, Description: p.Description, Policy: string(p.YAML)}
				if parsed, _, err := policy.Parse(p.Name, p.YAML, a.s.Vocabulary); err == nil {
					parts := viewPolicy(parsed)
					view.View = &parts
				}
				out = append(out, view)
			}
			return out, nil
		})
}

// Permissions lists the permission map.
func (c *Client) Permissions(ctx context.Context) (List[Scope], error) {
	return call[List[Scope]](ctx, c, http.MethodGet, "permissions", nil, nil)
}

// Presets lists policies to begin with.
func (c *Client) Presets(ctx context.Context) (List[PresetView], error) {
	return call[List[PresetView]](ctx, c, http.MethodGet, "presets", nil, nil)
}

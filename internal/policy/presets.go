package policy

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed presets/*.yaml
var presetFiles embed.FS

// Preset is a policy to start from: the scopes of a role. It has no name; the key's maker gives one.
type Preset struct {
	Name        string // "refund-support"; also the file's name
	Title       string
	Description string
	YAML        []byte // read it with Parse or ParseEdited
}

// Presets lists the presets: first those of the restricted keys guide (A, B, C), then more roles. Descriptions fit
// on a line. The caller owns the result.
func Presets() []Preset {
	out := []Preset{
		{Name: "refund-support", Title: "Refund-only support agent",
			Description: "Reads tickets and issues refunds, up to a daily cap. Charges nobody, changes no customer."},
		{Name: "reconciliation", Title: "Read-only reconciliation agent",
			Description: "Reads the ledger and builds reports. Writes nothing back."},
		{Name: "catalog-update", Title: "Catalog-update agent",
			Description: "Syncs the product catalog with the shop. Touches neither money nor customers."},
		{Name: "billing", Title: "Billing agent",
			Description: "Writes invoices from the price list, finalizes and sends them, up to a daily cap."},
		{Name: "subscription-manager", Title: "Subscription manager",
			Description: "Starts, changes and cancels subscriptions, up to a daily cap. Changes no price."},
		{Name: "invoice-finalizer", Title: "Invoice finalizer",
			Description: "Finalizes, sends and collects drafts that people made. Writes no draft and no line."},
		{Name: "payment-capturer", Title: "Payment capturer",
			Description: "Captures or cancels payments that are authorized already. Starts and raises none."},
		{Name: "customer-reader", Title: "Customer-data reader",
			Description: "Looks up who a customer is, how they pay, what they subscribe to. Writes nothing."},
		{Name: "dispute-responder", Title: "Dispute responder",
			Description: "Gathers evidence and answers disputes. Concedes none, gives no money back."},
		{Name: "payout-watcher", Title: "Payout watcher",
			Description: "Watches the balance and what leaves for the bank. Writes nothing."},
		{Name: "checkout-links", Title: "Checkout-link maker",
			Description: "Makes checkout pages for what is on the price list, each to be paid once, up to a daily cap."},
	}
	for i := range out {
		b, err := presetFiles.ReadFile("presets/" + out[i].Name + ".yaml")
		if err != nil {
			panic("policy: a preset without its file: " + err.Error()) // both are built in
		}
		out[i].YAML = b
	}
	return out
}

// FindPreset returns the preset of a name. The error names the nearest one and lists all.
func FindPreset(name string) (Preset, error) {
	var names []string
	for _, p := range Presets() {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Preset{}, fmt.Errorf("no preset `%s`%s; there are\n%s", name, didYouMean(nearest(name, names)), PresetList())
}

// PresetList writes what presets there are, a line each: the name and what the agent does.
func PresetList() string {
	var b strings.Builder
	for _, p := range Presets() {
		fmt.Fprintf(&b, "  %-21s %s\n", p.Name, p.Description)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

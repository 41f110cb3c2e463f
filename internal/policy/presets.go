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

// Presets lists the presets in the order of the restricted keys guide (A, B, C). The caller owns the
// result.
func Presets() []Preset {
	out := []Preset{
		{Name: "refund-support", Title: "Refund-only support agent", Description: "Reads tickets and issues refunds, up to a daily cap. " +
			"Cannot create charges, touch subscriptions or change customers."},
		{Name: "reconciliation", Title: "Read-only reconciliation agent", Description: "Reads the ledger and builds reports. Writes " +
			"nothing back."},
		{Name: "catalog-update", Title: "Catalog-update agent", Description: "Syncs the product catalog with the shop. Does not touch " +
			"money or customers."},
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

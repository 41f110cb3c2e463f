package console

import (
	"slices"
	"strings"

	"github.com/keybrake/keybrake/internal/admin"
)

// permissionsPage answers: how dangerous is a resource?
type permissionsPage struct {
	Groups  []scopeGroup
	Search  string
	Risk    string
	Preset  string
	Presets []admin.PresetView
	Shown   int
	All     int
}

type scopeGroup struct {
	Name   string
	Scopes []admin.Scope
}

func (v *visit) permissions() (*page, error) {
	all, err := v.api.Permissions(v.ctx())
	if err != nil {
		return nil, err
	}
	presets, err := v.api.Presets(v.ctx())
	if err != nil {
		return nil, err
	}
	d := permissionsPage{
		Search: v.r.FormValue("q"), Risk: v.r.FormValue("risk"), Preset: v.r.FormValue("preset"), Presets: presets.Items, All: len(all.Items),
	}
	for _, s := range all.Items {
		if !names(&s, d.Search) || d.Risk != "" && s.Risk != d.Risk || d.Preset != "" && !slices.Contains(s.Presets, d.Preset) {
			continue
		}
		d.Shown++
		i := slices.IndexFunc(d.Groups, func(g scopeGroup) bool { return g.Name == s.Group })
		if i < 0 {
			d.Groups, i = append(d.Groups, scopeGroup{Name: s.Group}), len(d.Groups)
		}
		d.Groups[i].Scopes = append(d.Groups[i].Scopes, s)
	}
	return &page{
		Title: "Permissions", Heading: "Permissions", Nav: "/permissions", Template: "permissions", Data: d,
		Sub: "What each resource lets an agent do at worst, if it repeats itself all night. Risk is about write access; reading never moves money.",
	}, nil
}

// names reports whether a search names the resource.
func names(s *admin.Scope, search string) bool {
	search = strings.ToLower(strings.TrimSpace(search))
	return search == "" || strings.Contains(strings.ToLower(s.Title), search) || strings.Contains(s.Resource, strings.ReplaceAll(search, " ", "_"))
}

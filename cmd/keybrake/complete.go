package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keybrake/keybrake/internal/admin"
)

const (
	// completionWait is how long whoever pressed the tabulator waits for a server.
	completionWait = time.Second
	// maxCompletions is how many names a terminal can still show.
	maxCompletions = 200
)

// lookup asks a server for the names that begin with a text; it may return others too.
type lookup func(ctx context.Context, c *admin.Client, prefix string) ([]cobra.Completion, error)

// argumentNames are what the words in capitals of usage lines stand for.
var argumentNames = map[string]lookup{
	"KEY": keyNames, "UPSTREAM": upstreamNames, "OPERATOR": operatorNames, "TOKEN": tokenNames, "SESSION": sessionNames,
	"ALERT": alertNames, "TARGET": targetNames, "RESERVATION": reservationNames,
}

// flagNames are the same for flags, in whichever command they are.
var flagNames = map[string]lookup{"key": keyNames, "like": keyNames, "upstream": upstreamNames, "operator": operatorNames}

// completions lets a command and all below it complete names, by what its usage line says it takes.
func completions(cmd *cobra.Command) {
	if words := strings.Fields(cmd.Use); len(words) > 1 {
		word, many := strings.CutSuffix(strings.Trim(words[1], "[]"), "...")
		if ask, ok := argumentNames[word]; ok {
			cmd.ValidArgsFunction = complete(ask, many)
		}
	}
	for flag, ask := range flagNames {
		if cmd.Flags().Lookup(flag) == nil {
			continue
		}
		if err := cmd.RegisterFlagCompletionFunc(flag, complete(ask, true)); err != nil {
			panic("keybrake: " + err.Error()) // a bug of ours
		}
	}
	for _, sub := range cmd.Commands() {
		completions(sub)
	}
}

// complete offers what a server tells. Somebody is typing: without a server nothing is offered, and nothing is said.
func complete(ask lookup, many bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 && !many {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		conn, err := connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionWait)
		defer cancel()
		found, err := ask(ctx, conn.client, prefix)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		found = slices.DeleteFunc(found, func(c cobra.Completion) bool {
			name, _, _ := strings.Cut(c, "\t")
			return !strings.HasPrefix(name, prefix) || slices.Contains(args, name)
		})
		return found[:min(len(found), maxCompletions)], cobra.ShellCompDirectiveNoFileComp
	}
}

func keyNames(ctx context.Context, c *admin.Client, prefix string) ([]cobra.Completion, error) {
	list, err := c.Keys(ctx, admin.KeyFilter{Match: prefix + "*", Limit: maxCompletions})
	return offered(list, err, func(k admin.KeyView) (string, string) { return k.Name, k.Upstream + ", " + k.State })
}

func upstreamNames(ctx context.Context, c *admin.Client, _ string) ([]cobra.Completion, error) {
	list, err := c.Upstreams(ctx)
	return offered(list, err, func(u admin.UpstreamView) (string, string) { return u.Name, u.Mode + " mode" })
}

func operatorNames(ctx context.Context, c *admin.Client, _ string) ([]cobra.Completion, error) {
	list, err := c.Operators(ctx)
	return offered(list, err, func(op admin.Operator) (string, string) { return op.Name, op.Role })
}

func tokenNames(ctx context.Context, c *admin.Client, _ string) ([]cobra.Completion, error) {
	list, err := c.Tokens(ctx)
	return offered(list, err, func(t admin.Token) (string, string) { return t.Name, t.Role })
}

func sessionNames(ctx context.Context, c *admin.Client, _ string) ([]cobra.Completion, error) {
	list, err := c.Sessions(ctx)
	return offered(list, err, func(v admin.Session) (string, string) { return v.ID, v.Operator })
}

func alertNames(ctx context.Context, c *admin.Client, _ string) ([]cobra.Completion, error) {
	list, err := c.Alerts(ctx, admin.AlertFilter{Open: true})
	return offered(list, err, func(a admin.Alert) (string, string) { return a.ID, a.Title })
}

func targetNames(ctx context.Context, c *admin.Client, _ string) ([]cobra.Completion, error) {
	list, err := c.AlertTargets(ctx)
	return offered(list, err, func(t admin.AlertTarget) (string, string) { return t.Name, t.Kind })
}

func reservationNames(ctx context.Context, c *admin.Client, _ string) ([]cobra.Completion, error) {
	list, err := c.OpenCalls(ctx, "")
	return offered(list, err, func(o admin.OpenCall) (string, string) { return o.Reservation, o.Operation })
}

// offered makes completions of a list: the name, and what shells show beside it.
func offered[T any](list admin.List[T], err error, tell func(T) (name, about string)) ([]cobra.Completion, error) {
	if err != nil {
		return nil, err
	}
	out := make([]cobra.Completion, 0, len(list.Items))
	for _, item := range list.Items {
		name, about := tell(item)
		out = append(out, cobra.CompletionWithDesc(name, printable(about)))
	}
	return out, nil
}

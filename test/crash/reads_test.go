package crash

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/keybrake/keybrake/internal/admin"
)

// patience is how long an operator is left without an answer, at most.
const patience = 15 * time.Second

// TestOperatorsOfANodeThatIsCutOffAreAnswered cuts a node off from the store while operators look at everything that there
// is: whatever they asked it before or meanwhile is answered, if only with an error, and as before once it is over.
func TestOperatorsOfANodeThatIsCutOffAreAnswered(t *testing.T) {
	w := newCluster(t, 1)
	p := w.newPrincipal("agent-reads", "payment_intents: write", own, rule{resource: "payment_intents", per: "day", cents: 1_000_00})
	w.send(spend(p, "reads"))
	looks := map[string]func(context.Context, *admin.Client) error{
		"keys": func(ctx context.Context, c *admin.Client) error { _, err := c.Keys(ctx, admin.KeyFilter{}); return err },
		"key":  func(ctx context.Context, c *admin.Client) error { _, err := c.Key(ctx, p.id); return err },
		"spend": func(ctx context.Context, c *admin.Client) error {
			_, err := c.Spend(ctx, admin.KeyFilter{})
			return err
		},
		"audit": func(ctx context.Context, c *admin.Client) error {
			_, err := c.Audit(ctx, admin.AuditFilter{})
			return err
		},
		"verify": func(ctx context.Context, c *admin.Client) error { _, err := c.VerifyAudit(ctx); return err },
		"status": func(ctx context.Context, c *admin.Client) error { _, err := c.Status(ctx); return err },
		"nodes":  func(ctx context.Context, c *admin.Client) error { _, err := c.Nodes(ctx); return err },
		"brakes": func(ctx context.Context, c *admin.Client) error { _, err := c.Brakes(ctx); return err },
		"alerts": func(ctx context.Context, c *admin.Client) error {
			_, err := c.Alerts(ctx, admin.AlertFilter{})
			return err
		},
	}
	n := w.nodes[0]
	var asking sync.WaitGroup
	over := time.Now().Add(2 * time.Second)
	for name, look := range looks {
		for range 3 {
			asking.Go(func() {
				for time.Now().Before(over) {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					_ = look(ctx, n.ops) // an error is an answer
					if ctx.Err() != nil {
						t.Errorf("%s: no answer within %s", name, patience)
					}
					cancel()
				}
			})
		}
	}
	time.Sleep(300 * time.Millisecond)
	n.store(hole)
	asking.Wait()
	n.store(heal)
	w.awaitNodes()
	for name, look := range looks {
		if err := look(t.Context(), n.ops); err != nil {
			t.Errorf("%s, afterwards: %v", name, err)
		}
	}
}

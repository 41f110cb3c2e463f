package sqlite

import (
	"database/sql"
	"fmt"

	"github.com/keybrake/keybrake/internal/ledger"
	"github.com/keybrake/keybrake/internal/store/codec"
)

// reservationRow is a row of the table as it is scanned.
type reservationRow struct {
	codec.Reservation
	fixedSum, movingSum sql.NullInt64
}

const reservationColumns = `id, key, state, at, fixed, moving, fixed_sum, moving_sum`

func (row *reservationRow) fields() []any {
	return []any{&row.ID, &row.Key, &row.State, &row.At, &row.Fixed, &row.Moving, &row.fixedSum, &row.movingSum}
}

func (row *reservationRow) decode() (*ledger.Reservation, error) {
	if !row.whole() {
		return nil, fmt.Errorf("decode reservation %d: it is not as it was written", row.ID)
	}
	return row.Decode()
}

// idem is the value of the idempotency column: NULL where nothing may attach.
func idem(r *ledger.Reservation) any {
	if value, attaches := codec.Idem(r); attaches {
		return value
	}
	return nil
}

var (
	micros     = codec.Micros
	fromMicros = codec.FromMicros
	idemValue  = codec.IdemValue
)

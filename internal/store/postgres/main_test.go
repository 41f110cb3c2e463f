package postgres_test

import (
	"testing"

	"github.com/keybrake/keybrake/internal/store/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

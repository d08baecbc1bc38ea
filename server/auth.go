package server

import (
	"context"
	"strings"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/server/pgwire"
)

// authenticate lets in every user that exists and may log in: an insecure node
// asks for no proof.
func (n *Node) authenticate(ctx context.Context, client pgwire.ClientInfo) error {
	user := strings.ToLower(client.User)
	return n.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		key, err := systables.Users.Key(user)
		if err != nil {
			return err
		}
		row, err := txn.Get(ctx, key)
		if err != nil {
			return err
		}
		if len(row.Value) == 0 {
			return pgerr.Newf("28P01", "password authentication failed for user %s", client.User)
		}
		if key, err = systables.RoleOptions.Key(user, "NOLOGIN"); err != nil {
			return err
		}
		if row, err = txn.Get(ctx, key); err != nil {
			return err
		}
		if len(row.Value) > 0 {
			return pgerr.Newf("28000", "%s does not have login privilege", client.User)
		}
		return nil
	})
}

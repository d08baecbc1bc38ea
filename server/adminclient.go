package server

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfastdb/holdfast/server/adminpb"
)

// DialAdmin returns a client of the node at address, which connects with its first
// call.
func DialAdmin(address string) (_ adminpb.AdminClient, closeClient func() error, _ error) {
	cc, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithDisableServiceConfig())
	if err != nil {
		return nil, nil, err
	}
	return adminpb.NewAdminClient(cc), cc.Close, nil
}

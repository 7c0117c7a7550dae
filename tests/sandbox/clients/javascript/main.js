// Puts a server on a key with @azure/arm-sql 10, as it is: its own api-versions, its own polling.
import { SqlManagementClient } from "@azure/arm-sql";

const [group, server, identity, application, name, uri] = process.argv.slice(2);
const { SUBSCRIPTION_ID, TOKEN } = process.env;
const credential = { getToken: async () => ({ token: TOKEN, expiresOnTimestamp: Date.now() + 3_600_000 }) };
const client = new SqlManagementClient(credential, SUBSCRIPTION_ID);
const polling = { updateIntervalInMs: 500 };

await client.servers.beginUpdateAndWait(group, server, {
  identity: { type: "UserAssigned", userAssignedIdentities: { [identity]: {} } },
  primaryUserAssignedIdentityId: identity,
  federatedClientId: application,
}, polling);
await client.serverKeys.beginCreateOrUpdateAndWait(group, server, name, { serverKeyType: "AzureKeyVault", uri }, polling);
const protectedBy = await client.encryptionProtectors.beginCreateOrUpdateAndWait(group, server, "current", {
  serverKeyType: "AzureKeyVault",
  serverKeyName: name,
  autoRotationEnabled: true,
}, polling);
const encryption = await client.transparentDataEncryptions.get(group, server, "orders", "current");
const keys = [];
for await (const one of client.serverKeys.listByServer(group, server)) {
  keys.push(one.name);
}
console.log(JSON.stringify({ protector: protectedBy.serverKeyName, keys, encryption: encryption.state }));

// A client of a running agent in JavaScript, with stock gRPC.
//
//   (cd examples/clients/node && npm install)
//   pitboss run examples/clients/tools.py -- node examples/clients/node/client.js proto
'use strict';

const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const definition = protoLoader.loadSync('pitboss/v1/pool.proto', { includeDirs: [process.argv[2] || 'proto'] });
const { Pool } = grpc.loadPackageDefinition(definition).pitboss.v1;

// Of google/rpc/status.proto and error_details.proto, what is read here.
const details = protobuf.parse(`
  syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }
  message HealthCheckRequest { string service = 1; }
  message HealthCheckResponse { int32 status = 1; }
`).root;

function explain(error) {
  const said = { reason: 'UNREACHABLE', metadata: {}, retry: false, seconds: 0 };
  for (const raw of error.metadata.get('grpc-status-details-bin')) {
    for (const any of details.lookupType('Status').decode(raw).details) {
      const type = any.typeUrl.split('/').pop();
      if (type === 'google.rpc.ErrorInfo') Object.assign(said, details.lookupType('ErrorInfo').decode(any.value));
      if (type === 'google.rpc.RetryInfo') {
        said.retry = true;
        said.seconds = Number(details.lookupType('RetryInfo').decode(any.value).retryDelay.seconds);
      }
    }
  }
  return `${said.reason}, tool's reason ${said.metadata.tool_reason}, may have run ${said.metadata.may_have_run}, data ${said.metadata.data}, ` +
    `retry ${said.retry} after ${said.seconds}s`;
}

const deadline = () => ({ deadline: Date.now() + 60000 });

function call(client, request) {
  return new Promise((resolve, reject) => client.Call(request, deadline(), (error, answer) => (error ? reject(error) : resolve(answer))));
}

function health(client, service) {
  const [ask, answer] = [details.lookupType('HealthCheckRequest'), details.lookupType('HealthCheckResponse')];
  return new Promise((resolve, reject) => client.makeUnaryRequest('/grpc.health.v1.Health/Check',
    (m) => Buffer.from(ask.encode(m).finish()), (b) => answer.decode(b), { service }, deadline(),
    (error, m) => (error ? reject(error) : resolve(['UNKNOWN', 'SERVING', 'NOT_SERVING'][m.status]))));
}

async function main() {
  const client = new Pool(`unix:${process.env.PITBOSS_SOCKET}`, grpc.credentials.createInsecure());
  console.log('health:', await health(client, 'default'));
  console.log('add:', JSON.parse((await call(client, { tool: 'add', json: JSON.stringify({ a: 20, b: 22 }) })).json));

  // Bytes travel beside the JSON, which names them by their number: no base64.
  const answer = await call(client, { tool: 'reverse', json: '{"data": {"$part": 0}}', parts: [Buffer.from('abc')] });
  console.log('reverse:', answer.parts[JSON.parse(answer.json).$part].toString());

  for await (const message of client.CallStream({ call: { tool: 'count', json: '{"n": 3}' } }, deadline())) {
    if (!message.result) console.log('count:', JSON.parse(message.json).i);
  }
  try {
    await call(client, { tool: 'refuse', json: '{"retryable": true}' });
  } catch (error) {
    console.log('refuse:', explain(error));
  }
  client.close();
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});

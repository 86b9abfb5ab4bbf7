// The virtual network of the isolated profile: private endpoints, nodes of Kubernetes, and the subnet through which the web app calls.
param name string
param location string
param tags object

@description('Range of the network; its first blocks of /22, /24 and /24 are for nodes, endpoints and web app.')
param addressPrefix string = '10.20.0.0/16'

@description('Names of the private DNS zones, by what they serve.')
param zones object

@description('Who gets which role on the network: a list of principalId and principalType by role.')
param grants object = {}

var roleIds = loadJsonContent('roles.json')
var roles = flatten(map(items(grants), grant => map(grant.value, who => union(who, { role: grant.key }))))
var zoneNames = map(items(zones), item => item.value)

resource nodesRules 'Microsoft.Network/networkSecurityGroups@2025-01-01' = {
  name: 'nsg-${name}-nodes'
  location: location
  tags: tags
}

resource endpointsRules 'Microsoft.Network/networkSecurityGroups@2025-01-01' = {
  name: 'nsg-${name}-endpoints'
  location: location
  tags: tags
}

resource appRules 'Microsoft.Network/networkSecurityGroups@2025-01-01' = {
  name: 'nsg-${name}-app'
  location: location
  tags: tags
}

resource network 'Microsoft.Network/virtualNetworks@2025-01-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [addressPrefix]
    }
    // Within the network, not as separate resources: otherwise a repeated deployment would remove them first.
    subnets: [
      {
        name: 'nodes'
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, 22, 0)
          networkSecurityGroup: {
            id: nodesRules.id
          }
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, 24, 4)
          networkSecurityGroup: {
            id: endpointsRules.id
          }
        }
      }
      {
        name: 'app'
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, 24, 5)
          networkSecurityGroup: {
            id: appRules.id
          }
          delegations: [
            {
              name: 'web'
              properties: {
                serviceName: 'Microsoft.Web/serverFarms'
              }
            }
          ]
        }
      }
    ]
  }
}

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for zoneName in zoneNames: {
    name: zoneName
    location: 'global'
    tags: tags
  }
]

resource link 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (zoneName, index) in zoneNames: {
    parent: zone[index]
    name: name
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      virtualNetwork: {
        id: network.id
      }
    }
  }
]

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for item in roles: {
    name: guid(network.id, item.principalId, item.role)
    scope: network
    properties: {
      principalId: item.principalId
      principalType: item.principalType
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[item.role])
    }
  }
]

output nodesSubnetId string = '${network.id}/subnets/nodes'
output endpointsSubnetId string = '${network.id}/subnets/endpoints'
output appSubnetId string = '${network.id}/subnets/app'

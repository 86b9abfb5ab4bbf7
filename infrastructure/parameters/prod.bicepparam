// For production: isolated, redundant, with a permanent cluster. It costs money even while nobody uses it.
using '../main.bicep'

param name = readEnvironmentVariable('MLOPS_NAME', 'vision')
param environmentName = 'prod'
param isolated = true
param storageSku = 'Standard_ZRS'
param registrySku = 'Premium'
param dailyLogGigabytes = 5
param gpuMaxNodes = 2
param kubernetes = true
param kubernetesTier = 'Standard'
param kubernetesMinNodes = 3
param kubernetesMaxNodes = 6
param webApp = true
param webAppSku = 'P0v3'
param customVision = false
param dataScientistsGroupId = readEnvironmentVariable('MLOPS_DATA_SCIENTISTS', '')
param kubernetesAdminGroupId = readEnvironmentVariable('MLOPS_KUBERNETES_ADMINS', '')
param federations = json(readEnvironmentVariable('MLOPS_FEDERATIONS', '[]'))
param budgetAmount = 1500
param budgetContacts = json(readEnvironmentVariable('MLOPS_BUDGET_CONTACTS', '[]'))
param budgetStart = readEnvironmentVariable('MLOPS_BUDGET_START', '')
